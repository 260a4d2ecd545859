-- What is known of packages and their versions, and making it agree with PyPI.

-- name: add_package
INSERT INTO packages (name, display_name) VALUES (:name, :display_name) ON CONFLICT DO NOTHING;

-- name: package
-- Two writers of one package take turns from here on.
SELECT package_id, skip, summary FROM packages WHERE name = :name FOR NO KEY UPDATE;

-- name: update_package
-- Nothing comes back if what is on record is newer. Pages without a serial are always new.
UPDATE packages SET display_name = :display_name, serial = COALESCE(:serial, serial)
WHERE name = :name AND (CAST(:serial AS bigint) IS NULL OR serial <= :serial)
RETURNING package_id;

-- name: put_names
-- A spelling stays with the package that had it first.
INSERT INTO package_names (name, package_id)
SELECT DISTINCT name, CAST(:package_id AS integer) FROM unnest(CAST(:names AS text[])) AS name ORDER BY name
ON CONFLICT (name) DO UPDATE SET last_seen = now()
WHERE package_names.package_id = EXCLUDED.package_id;

-- name: names_of_others
SELECT package_names.name, packages.name AS package
FROM package_names JOIN packages USING (package_id)
WHERE package_names.name = ANY(:names) AND package_id <> :package_id ORDER BY 1;

-- name: names
SELECT name FROM package_names WHERE package_id = :package_id;

-- name: known
SELECT version, released, requires_python, yanked, sdist_name, sdist_url, sdist_sha256,
    sdist_size, COALESCE(tags, '{}') AS tags
FROM packages JOIN versions USING (package_id)
LEFT JOIN tag_sets ON tag_set_id = pypi_tag_set_id
WHERE packages.name = :name;

-- name: put_versions
-- One statement, however many versions. Returns those that it changed.
INSERT INTO versions AS old (
    package_id, version, released, requires_python, yanked,
    sdist_name, sdist_url, sdist_sha256, sdist_size, pypi_tag_set_id
)
SELECT :package_id, version, released, requires_python, yanked,
    sdist_name, sdist_url, sdist_sha256, sdist_size, tag_set_id
FROM jsonb_to_recordset(CAST(:versions AS jsonb)) AS page (
    version text, released timestamptz, requires_python text, yanked text, sdist_name text,
    sdist_url text, sdist_sha256 text, sdist_size bigint, tags text[]
)
LEFT JOIN tag_sets ON tags_digest(tag_sets.tags) = tags_digest(page.tags)
ORDER BY version
ON CONFLICT (package_id, version) DO UPDATE SET
    released = EXCLUDED.released,
    requires_python = EXCLUDED.requires_python,
    yanked = EXCLUDED.yanked,
    sdist_name = EXCLUDED.sdist_name,
    sdist_url = EXCLUDED.sdist_url,
    sdist_sha256 = EXCLUDED.sdist_sha256,
    sdist_size = EXCLUDED.sdist_size,
    pypi_tag_set_id = EXCLUDED.pypi_tag_set_id
WHERE (
    old.released, old.requires_python, old.yanked, old.sdist_name, old.sdist_url,
    old.sdist_sha256, old.sdist_size, old.pypi_tag_set_id
) IS DISTINCT FROM (
    EXCLUDED.released, EXCLUDED.requires_python, EXCLUDED.yanked, EXCLUDED.sdist_name,
    EXCLUDED.sdist_url, EXCLUDED.sdist_sha256, EXCLUDED.sdist_size, EXCLUDED.pypi_tag_set_id
)
RETURNING version_id;

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

-- name: request_page
INSERT INTO page_jobs (package_id, reason, requested) VALUES (:package_id, :reason, now())
ON CONFLICT (package_id) DO UPDATE SET
    requested = EXCLUDED.requested, reason = EXCLUDED.reason, not_before = '-infinity';
