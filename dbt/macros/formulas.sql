{# Entropy of a 0/1 outcome with this rate, in nats: the logloss of always predicting the rate. Null at 0 and 1. #}
{% macro entropy(rate) -%}
    case
        when {{ rate }} > 0 and {{ rate }} < 1
            then -({{ rate }} * ln({{ rate }}) + (1 - {{ rate }}) * ln(1 - {{ rate }}))
    end
{%- endmacro %}

{# End of Wilson's 95 % interval of a rate (E. B. Wilson 1927); `sign` is '-' for the lower end, '+' for the upper. #}
{% macro wilson(successes, trials, sign) -%}
    case
        when {{ trials }} > 0
            then (
                ({{ successes }} + 1.9207294) / {{ trials }}
                {{ sign }} 1.959964 * sqrt(
                    greatest(
                        {{ successes }} * 1.0 * ({{ trials }} - {{ successes }}) / {{ trials }} + 0.9603647, 0.0
                    )
                ) / {{ trials }}
            ) / (1 + 3.8414588 / {{ trials }})
    end
{%- endmacro %}

{# Dollars for holding `mib` MiB of memory for `seconds`. #}
{% macro usd_of_memory(mib, seconds, usd_per_gib_hour) -%}
    {{ mib }} / 1024 * {{ seconds }} / 3600 * {{ usd_per_gib_hour }}
{%- endmacro %}

{# A number with its sign and thousands separators, without decimals; format() cannot do both. #}
{% macro signed(number) -%}
    case when {{ number }} < 0 then '-' else '+' end || format('{:,.0f}', abs({{ number }}))
{%- endmacro %}

{# What a reader calls a model of this algorithm and k. #}
{% macro model_label(algorithm, k) -%}
    case {{ algorithm }}
        when 'prior' then 'prior rate'
        when 'lr' then 'logistic regression'
        when 'lr_cross' then 'logistic regression with crosses'
        when 'lightgbm' then 'LightGBM'
        else upper({{ algorithm }})
    end || case when {{ k }} > 0 then ', k = ' || {{ k }} else '' end
{%- endmacro %}

{# Hours from one instant to another, to the second. #}
{% macro hours_between(earlier, later) -%}
    date_diff('second', {{ earlier }}, {{ later }}) / 3600.0
{%- endmacro %}

{# Distance from `bound` to `value` over the size of both, so that numbers in different units share one axis, -1 to 1. #}
{% macro relative_distance(value, bound) -%}
    case
        when {{ value }} = {{ bound }} then 0
        else ({{ value }} - {{ bound }}) / (abs({{ value }}) + abs({{ bound }}))
    end
{%- endmacro %}
