-- Keeping the table queue equal to the rule, for the versions that changed.

-- name: targets
SELECT target_id, targets.name, python, rank, active, tags
FROM targets JOIN tag_sets USING (tag_set_id);

-- name: lock
-- Two writers of one version take turns here: each then sees what the other committed.
SELECT version_id FROM versions WHERE version_id = ANY(:version_ids) ORDER BY version_id
FOR NO KEY UPDATE;

-- name: versions
SELECT version_id, lane, versions.skip, packages.skip AS package_skip, policy, popularity,
    released, sdist_name <> '' AND sdist_sha256 <> '' AS has_sdist, requires_python,
    COALESCE(tags, '{}') AS pypi_tags
FROM versions JOIN packages USING (package_id)
LEFT JOIN tag_sets ON tag_set_id = pypi_tag_set_id
WHERE version_id = ANY(:version_ids);

-- name: skips
SELECT versions.version_id, skips.target_id, skips.reason
FROM versions JOIN skips USING (package_id)
WHERE versions.version_id = ANY(:version_ids)
    AND (skips.version_id IS NULL OR skips.version_id = versions.version_id);

-- name: file_tags
SELECT version_id, tags FROM files JOIN tag_sets USING (tag_set_id)
WHERE version_id = ANY(:version_ids);

-- name: failures
SELECT version_id, target_id, build_id, kind, ended FROM builds JOIN versions USING (version_id)
WHERE version_id = ANY(:version_ids) AND outcome = 'failure' AND ended > asked
ORDER BY build_id;

-- name: leases
SELECT version_id, target_id FROM leases WHERE version_id = ANY(:version_ids);

-- name: rows
SELECT version_id, target_id, lane, popularity, released, not_before, attempts FROM queue
WHERE version_id = ANY(:version_ids);

-- name: delete
DELETE FROM queue WHERE version_id = :version_id AND target_id = :target_id;

-- name: put
INSERT INTO queue (version_id, target_id, lane, popularity, released, not_before, attempts)
VALUES (:version_id, :target_id, :lane, :popularity, :released, :not_before, :attempts)
ON CONFLICT (version_id, target_id) DO UPDATE SET
    lane = EXCLUDED.lane, popularity = EXCLUDED.popularity, released = EXCLUDED.released,
    not_before = EXCLUDED.not_before, attempts = EXCLUDED.attempts;

-- name: wanted_versions
-- All that a new target may have to build, in batches.
SELECT version_id FROM versions WHERE lane IS NOT NULL AND version_id > :after
ORDER BY version_id LIMIT :batch;

-- name: fell_due
-- Time passes without a notification, so somebody must look.
SELECT EXISTS (
    SELECT FROM queue WHERE attempts > 0
        AND not_before BETWEEN now() - make_interval(secs => :seconds) AND now()
);

-- name: page_jobs
INSERT INTO page_jobs (package_id, reason, requested)
SELECT DISTINCT package_id, :reason, now() FROM versions WHERE version_id = ANY(:version_ids)
ON CONFLICT (package_id) DO UPDATE SET
    requested = EXCLUDED.requested, reason = EXCLUDED.reason, not_before = '-infinity';

-- name: site_jobs
-- However often it is asked for, a page of the whole site is written every few seconds.
INSERT INTO site_jobs (page, requested, not_before)
VALUES (:page, now(), now() + make_interval(secs => :calm))
ON CONFLICT (page) DO UPDATE SET requested = EXCLUDED.requested;
