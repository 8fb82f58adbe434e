-- name: insert
-- A trigger makes the model's partition of fit and its view of labels.
INSERT INTO phdl.model_version
    (name, sha256, uri, label_names, wavelength_first, wavelength_size, resolution, grid_sha256, code_version,
     metrics, description)
VALUES
    (:name, :sha256, :uri, :label_names, :wavelength_first, :wavelength_size, :resolution, :grid_sha256,
     :code_version, CAST(:metrics AS jsonb), :description)
ON CONFLICT (name) DO NOTHING
RETURNING model_version_id;

-- name: list
SELECT model_version_id, name, view_name, sha256, uri, label_names, wavelength_first, wavelength_size, resolution,
       grid_sha256, code_version, metrics, description, registered_at
FROM phdl.model_version
WHERE CAST(:name AS text) IS NULL OR name = :name
ORDER BY model_version_id;
