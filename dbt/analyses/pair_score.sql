-- The pairs that readers look at, scored from the exported vectors: equal to p of the mart wherever the model itself
-- scored. `--vars 'vectors: <folder>'` names the folder of the vectors.
{{ cvr_from_vectors("'" ~ var('vectors', 'warehouse/vectors/promo') ~ "'", ref('fct_entity_scores')) }}
