-- What is known of packages and their versions, and making it agree with PyPI.

-- name: package
-- Two writers of one package take turns from here on.
SELECT package_id, skip, summary FROM packages WHERE name = :name FOR NO KEY UPDATE;

-- name: names_of_others
SELECT package_names.name, packages.name AS package
FROM package_names JOIN packages USING (package_id)
WHERE package_names.name = ANY(:names) AND package_id <> :package_id ORDER BY 1;

-- name: names
SELECT name FROM package_names WHERE package_id = :package_id;

-- name: version
SELECT version_id, lane, versions.skip
FROM versions JOIN packages USING (package_id)
WHERE name = :package AND version = :version;

-- name: want
-- Whoever asks with more urgency wins; nobody else's wish is taken back.
UPDATE versions SET lane = :lane
WHERE version_id = :version_id AND (lane IS NULL OR lane > :lane);

-- name: ask_again
-- Builds so far do not count any more.
UPDATE versions SET past = COALESCE(pg_sequence_last_value('leases_build_id_seq'), 0)
WHERE version_id = :version_id;

-- name: skip_version
UPDATE versions SET skip = :reason WHERE version_id = :version_id;

-- name: skip_package
UPDATE packages SET skip = :reason WHERE package_id = :package_id;

-- name: describe
UPDATE packages SET summary = :summary WHERE package_id = :package_id;

-- name: pythons
SELECT DISTINCT python FROM targets WHERE active;
