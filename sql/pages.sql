-- What the public pages show, and the jobs of writing them.

-- name: candidates
SELECT package_id FROM page_jobs WHERE not_before <= now() ORDER BY requested LIMIT 32;

-- name: lock_package
-- One publisher per package at a time. No row is locked, so whoever asks for the pages
-- again meanwhile does not wait; the lock ends with the transaction, or with its process.
SELECT pg_try_advisory_xact_lock(1, :package_id);

-- name: job
SELECT package_id, reason, requested, attempts FROM page_jobs WHERE package_id = :package_id;

-- name: done
-- Unless it was asked for again meanwhile.
DELETE FROM page_jobs WHERE package_id = :package_id AND requested = :requested;

-- name: put_off
UPDATE page_jobs SET attempts = attempts + 1,
    not_before = now() + make_interval(secs => :seconds)
WHERE package_id = :package_id AND requested = :requested;

-- name: request_site_page
-- However often it is asked for, a page of the whole site is written every few seconds.
INSERT INTO site_jobs (page, requested, not_before)
VALUES (:page, now(), now() + make_interval(secs => :calm))
ON CONFLICT (page) DO UPDATE SET requested = EXCLUDED.requested;

-- name: site_job
SELECT page, requested FROM site_jobs
WHERE not_before <= now() AND pg_try_advisory_xact_lock(2, hashtext(page)) LIMIT 1;

-- name: site_done
DELETE FROM site_jobs WHERE page = :page AND requested = :requested;

-- name: site_again
UPDATE site_jobs SET not_before = now() + make_interval(secs => :calm) WHERE page = :page;

-- name: package
SELECT name, display_name, summary, status FROM packages WHERE package_id = :package_id;

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

-- name: list_package
-- Whether the package has a simple page from now on. A row comes back if that is news.
UPDATE packages SET listed = :listed WHERE package_id = :package_id AND listed <> :listed
RETURNING package_id;

-- name: listed_packages
SELECT name FROM packages WHERE listed ORDER BY name;

-- name: overview
SELECT packages.name, display_name, summary,
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
WHERE (lane IS NOT NULL OR file_id IS NOT NULL) AND status NOT IN ('quarantined', 'deleted')
GROUP BY package_id ORDER BY packages.name LIMIT :limit;

-- name: describe_site
-- Returns a row if it is news.
INSERT INTO site (described) VALUES (CAST(:described AS jsonb))
ON CONFLICT (is_it) DO UPDATE SET described = EXCLUDED.described
WHERE site.described <> EXCLUDED.described
RETURNING described;

-- name: all_pages
INSERT INTO page_jobs (package_id, reason, requested)
SELECT package_id, :reason, now() FROM packages
ON CONFLICT (package_id) DO UPDATE SET requested = EXCLUDED.requested, not_before = '-infinity';
