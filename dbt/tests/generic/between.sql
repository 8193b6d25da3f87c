{# The column, where it is not null, lies in [low, high]; a bound that is not given is not checked. #}
{% test between(model, column_name, low=none, high=none) %}
select {{ column_name }}
from {{ model }}
where
    false
    {%- if low is not none %} or {{ column_name }} < {{ low }}{% endif %}
    {%- if high is not none %} or {{ column_name }} > {{ high }}{% endif %}
{% endtest %}
