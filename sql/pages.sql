-- What the public pages show, and the jobs of writing them.

-- name: next_job
-- Held until the transaction ends; what is asked for meanwhile makes a new row afterwards.
DELETE FROM page_jobs WHERE package_id = (
    SELECT package_id FROM page_jobs WHERE not_before <= now()
    ORDER BY requested LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING package_id, reason, requested, attempts;

-- name: put_off
INSERT INTO page_jobs (package_id, reason, requested, not_before, attempts)
VALUES (:package_id, :reason, :requested, now() + make_interval(secs => :seconds), :attempts)
ON CONFLICT (package_id) DO UPDATE SET
    attempts = EXCLUDED.attempts, not_before = EXCLUDED.not_before;

-- name: next_site_job
-- Bursts coalesce: a page is written at most once every few seconds.
DELETE FROM site_jobs WHERE page = (
    SELECT page FROM site_jobs WHERE requested <= now() - make_interval(secs => :calm)
    ORDER BY requested LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING page;

-- name: put_site_job
INSERT INTO site_jobs (page, requested) VALUES (:page, now()) ON CONFLICT (page) DO NOTHING;

-- name: pending
SELECT (SELECT count(*) FROM page_jobs) + (SELECT count(*) FROM site_jobs) AS pages;

-- name: package
SELECT name, display_name, summary FROM packages WHERE package_id = :package_id;

-- name: versions
SELECT version_id, version, released, yanked, skip FROM versions
WHERE package_id = :package_id;

-- name: files
SELECT files.version_id, version, name AS filename, size, sha256, metadata_sha256,
    files.requires_python, published, yanked, build_id, tags
FROM files JOIN versions USING (version_id) JOIN tag_sets USING (tag_set_id)
WHERE package_id = :package_id ORDER BY file_id;

-- name: newest_builds
SELECT DISTINCT ON (version_id, target_id) version_id, target_id, outcome, kind, cause, fix, log
FROM builds JOIN versions USING (version_id)
WHERE package_id = :package_id
ORDER BY version_id, target_id, build_id DESC;

-- name: published_packages
SELECT name FROM packages WHERE EXISTS (
    SELECT FROM versions JOIN files USING (version_id)
    WHERE versions.package_id = packages.package_id
) ORDER BY name;

-- name: overview
SELECT name, display_name, summary,
    count(DISTINCT file_id) AS files,
    count(DISTINCT version_id) FILTER (WHERE outcome = 'failure') AS failed,
    count(DISTINCT version_id) FILTER (WHERE waiting) AS waiting
FROM packages JOIN versions USING (package_id)
LEFT JOIN files USING (version_id)
LEFT JOIN LATERAL (
    SELECT outcome FROM builds WHERE builds.version_id = versions.version_id
    ORDER BY build_id DESC LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT true AS waiting FROM queue WHERE queue.version_id = versions.version_id LIMIT 1
) AS queued ON true
WHERE lane IS NOT NULL OR file_id IS NOT NULL
GROUP BY package_id ORDER BY name LIMIT :limit;
