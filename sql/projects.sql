-- Making packages and their versions agree with PyPI, many projects in one statement each.

-- name: enter
INSERT INTO packages (name, display_name, follow, followed, policy)
SELECT name, display_name, follow, followed, policy FROM unnest(
    CAST(:names AS text[]), CAST(:display_names AS text[]), CAST(:follows AS text[]),
    CAST(:since AS timestamptz[]), CAST(:policies AS text[])
) AS news (name, display_name, follow, followed, policy)
ORDER BY name ON CONFLICT DO NOTHING;

-- name: hold
-- Two writers of one package take turns from here on; all of them in one order.
SELECT package_id, name, display_name, serial, status, status_reason, follow, followed, last_read,
    now() - changed AS quiet
FROM packages WHERE name = ANY(:names) ORDER BY package_id FOR NO KEY UPDATE;

-- name: known
SELECT package_id, version, released, requires_python, yanked, sdist_name, sdist_url,
    sdist_sha256, sdist_size, pypi_tag_set_id, lane
FROM versions WHERE package_id = ANY(:package_ids);

-- name: put_versions
-- Returns those that it changed. Nobody's wish is taken back.
INSERT INTO versions AS old (
    package_id, version, released, lane, requires_python, yanked,
    sdist_name, sdist_url, sdist_sha256, sdist_size, pypi_tag_set_id
)
SELECT package_id, version, released, lane, requires_python, yanked,
    sdist_name, sdist_url, sdist_sha256, sdist_size, pypi_tag_set_id
FROM jsonb_to_recordset(CAST(:versions AS jsonb)) AS page (
    package_id integer, version text, released timestamptz, lane smallint, requires_python text,
    yanked text, sdist_name text, sdist_url text, sdist_sha256 text, sdist_size bigint,
    pypi_tag_set_id integer
)
ORDER BY package_id, version
ON CONFLICT (package_id, version) DO UPDATE SET
    released = EXCLUDED.released,
    lane = COALESCE(old.lane, EXCLUDED.lane),
    requires_python = EXCLUDED.requires_python,
    yanked = EXCLUDED.yanked,
    sdist_name = EXCLUDED.sdist_name,
    sdist_url = EXCLUDED.sdist_url,
    sdist_sha256 = EXCLUDED.sdist_sha256,
    sdist_size = EXCLUDED.sdist_size,
    pypi_tag_set_id = EXCLUDED.pypi_tag_set_id
WHERE (
    old.released, COALESCE(old.lane, EXCLUDED.lane), old.requires_python, old.yanked,
    old.sdist_name, old.sdist_url, old.sdist_sha256, old.sdist_size, old.pypi_tag_set_id
) IS DISTINCT FROM (
    EXCLUDED.released, old.lane, EXCLUDED.requires_python, EXCLUDED.yanked,
    EXCLUDED.sdist_name, EXCLUDED.sdist_url, EXCLUDED.sdist_sha256, EXCLUDED.sdist_size,
    EXCLUDED.pypi_tag_set_id
)
RETURNING version_id;

-- name: want
-- What nobody wanted so far.
UPDATE versions SET lane = wish.lane
FROM unnest(
    CAST(:package_ids AS integer[]), CAST(:versions AS text[]), CAST(:lanes AS smallint[])
) AS wish (package_id, version, lane)
WHERE versions.package_id = wish.package_id AND versions.version = wish.version
    AND versions.lane IS NULL
RETURNING version_id;

-- name: update
-- What the page says of the project as a whole, and when it is read again.
UPDATE packages SET display_name = said.display_name, status = said.status,
    status_reason = said.status_reason, serial = GREATEST(packages.serial, said.serial),
    follow = said.follow, followed = said.followed, last_read = now(),
    next_read = now() + make_interval(secs => said.seconds),
    changed = CASE WHEN is_news THEN now() ELSE packages.changed END
FROM unnest(
    CAST(:package_ids AS integer[]), CAST(:display_names AS text[]), CAST(:statuses AS text[]),
    CAST(:status_reasons AS text[]), CAST(:serials AS bigint[]), CAST(:follows AS text[]),
    CAST(:since AS timestamptz[]), CAST(:seconds AS double precision[]),
    CAST(:is_news AS boolean[])
) AS said (package_id, display_name, status, status_reason, serial, follow, followed, seconds,
    is_news)
WHERE packages.package_id = said.package_id;

-- name: put_names
-- A spelling stays with the package that had it first.
INSERT INTO package_names (name, package_id)
SELECT DISTINCT ON (name) name, package_id
FROM unnest(CAST(:names AS text[]), CAST(:package_ids AS integer[])) AS said (name, package_id)
ORDER BY name, package_id
ON CONFLICT (name) DO UPDATE SET last_seen = now()
WHERE package_names.package_id = EXCLUDED.package_id;

-- name: leases
-- Locked first of all: the dispatcher, which ends builds, locks in this order, too.
SELECT build_id FROM leases JOIN versions USING (version_id)
WHERE package_id = ANY(:package_ids) ORDER BY token FOR NO KEY UPDATE OF leases;

-- name: leave_queue
-- Whatever the rule would say else: no version of what is not built waits. Whoever is just
-- claiming a row has it, and what was granted is found by who waited for that here.
DELETE FROM queue USING versions
WHERE versions.version_id = queue.version_id AND package_id = ANY(:package_ids);

-- name: wanted
SELECT version_id FROM versions WHERE package_id = ANY(:package_ids) AND lane IS NOT NULL;

-- name: request_pages
INSERT INTO page_jobs (package_id, reason, requested)
SELECT DISTINCT package_id, :reason, now()
FROM unnest(CAST(:package_ids AS integer[])) AS package_id ORDER BY package_id
ON CONFLICT (package_id) DO UPDATE SET
    requested = EXCLUDED.requested, reason = EXCLUDED.reason, not_before = '-infinity';

-- name: half_forgotten
SELECT package_id FROM packages WHERE name = ANY(:names) AND status = 'deleted'
    AND EXISTS (SELECT FROM versions WHERE versions.package_id = packages.package_id);

-- name: doom_files
INSERT INTO doomed_files (name, package, due)
SELECT files.name, packages.name, now() + make_interval(secs => :grace)
FROM packages JOIN versions USING (package_id) JOIN files USING (version_id)
WHERE package_id = ANY(:package_ids) AND status = 'deleted'
ON CONFLICT (name) DO UPDATE SET due = EXCLUDED.due;

-- name: forget_versions
DELETE FROM versions USING packages
WHERE versions.package_id = packages.package_id AND packages.package_id = ANY(:package_ids)
    AND status = 'deleted';

-- name: forget_skips
DELETE FROM skips USING packages
WHERE skips.package_id = packages.package_id AND packages.package_id = ANY(:package_ids)
    AND status = 'deleted' AND version_id IS NULL;

-- name: forget_costs
DELETE FROM costs USING packages
WHERE costs.package_id = packages.package_id AND packages.package_id = ANY(:package_ids)
    AND status = 'deleted';

-- name: forget_names
DELETE FROM package_names USING packages
WHERE package_names.package_id = packages.package_id AND packages.package_id = ANY(:package_ids)
    AND status = 'deleted';

-- name: forget_package
-- Whoever has the name next may be somebody else: what its owners were trusted with is theirs no
-- more. That an operator wants the name, or never wants it, stays.
UPDATE packages SET network = false, summary = '', keep = NULL, prereleases = 'build',
    failures = 0, last_read = NULL
WHERE package_id = ANY(:package_ids) AND status = 'deleted';

-- name: due_files
-- A project that came back may have published the same again.
DELETE FROM doomed_files WHERE name = ANY(ARRAY(
    SELECT name FROM doomed_files WHERE due <= now() LIMIT :batch FOR UPDATE SKIP LOCKED
))
RETURNING package, name,
    EXISTS (SELECT FROM files WHERE files.name = doomed_files.name)
    OR EXISTS (SELECT FROM uploads WHERE uploads.name = doomed_files.name) AS is_needed;

-- name: follow
-- Returns whether it is news. What is followed anew is followed from now on.
UPDATE packages SET follow = 'listed', followed = now(), last_read = NULL,
    policy = CASE WHEN :policy = '' THEN 'all' ELSE :policy END
WHERE package_id = :package_id AND follow <> 'listed'
RETURNING followed;
