-- Which projects must be read, and how far PyPI was followed.

-- name: enter_jobs
-- A job that is there already and expects as much stays as it is, with what delays it.
INSERT INTO project_jobs AS old (name, serial, reason, popularity)
SELECT name, max(said.serial), :reason, COALESCE(max(popularity), 0)
FROM unnest(CAST(:names AS text[]), CAST(:serials AS bigint[])) AS said (name, serial)
LEFT JOIN packages USING (name)
WHERE :everything OR package_id IS NOT NULL
GROUP BY name ORDER BY name
ON CONFLICT (name) DO UPDATE SET serial = EXCLUDED.serial, reason = EXCLUDED.reason,
    requested = now(), not_before = '-infinity', attempts = 0
WHERE EXCLUDED.serial > COALESCE(old.serial, 0);

-- name: take
-- A job is taken until a time, not locked: no transaction is open while PyPI is asked. Who is
-- killed meanwhile leaves it for others then. A time that lies further off than any delay comes
-- from a clock that has stepped back since.
UPDATE project_jobs SET not_before = now() + make_interval(secs => :lease)
WHERE name = ANY(ARRAY(
    SELECT name FROM project_jobs
    WHERE not_before <= now() OR not_before > now() + make_interval(secs => :longest)
    ORDER BY popularity DESC, requested LIMIT :batch FOR UPDATE SKIP LOCKED
))
RETURNING name, serial, reason, attempts, extract(epoch FROM now() - missing) AS missing,
    popularity;

-- name: put_off
UPDATE project_jobs SET attempts = attempts + 1,
    not_before = now() + make_interval(secs => said.seconds),
    missing = CASE WHEN said.is_missing THEN COALESCE(missing, now()) ELSE missing END
FROM unnest(
    CAST(:names AS text[]), CAST(:seconds AS double precision[]), CAST(:is_missing AS boolean[])
) AS said (name, seconds, is_missing)
WHERE project_jobs.name = said.name AND not_before <> '-infinity';

-- name: give_back
UPDATE project_jobs SET not_before = '-infinity' WHERE name = ANY(:names);

-- name: done
-- Unless more is expected by now.
DELETE FROM project_jobs USING unnest(CAST(:names AS text[]), CAST(:serials AS bigint[]))
    AS said (name, serial)
WHERE project_jobs.name = said.name
    AND (project_jobs.serial IS NULL OR said.serial IS NULL OR project_jobs.serial <= said.serial);

-- name: left
SELECT count(*) FROM (SELECT FROM project_jobs LIMIT :most) AS jobs;

-- name: progress
-- applied: all changes up to this serial are in the database.
SELECT serial, began, has_journal, NULLIF(compared, '-infinity') AS compared,
    unknown, stale, absent,
    LEAST(serial, (SELECT min(serial) - 1 FROM project_jobs WHERE serial IS NOT NULL)) AS applied
FROM tracking;

-- name: advance
UPDATE tracking SET serial = GREATEST(serial, :serial), has_journal = true;

-- name: no_journal
-- Returns a row if that is news.
UPDATE tracking SET has_journal = false WHERE has_journal RETURNING serial;

-- name: read_sooner
UPDATE packages SET next_read = now() + random() * make_interval(secs => :period)
WHERE next_read > now() + make_interval(secs => :period);

-- name: enter_polls
-- Pages that were not read for long. They count as read for a while: the job says the rest.
WITH due AS (
    UPDATE packages SET next_read = now() + interval '1 day'
    WHERE package_id = ANY(ARRAY(
        SELECT package_id FROM packages WHERE next_read <= now()
        ORDER BY next_read LIMIT :batch FOR NO KEY UPDATE SKIP LOCKED
    )) RETURNING name, popularity
)
INSERT INTO project_jobs (name, reason, popularity)
SELECT name, 'not read for long', popularity FROM due ORDER BY name
ON CONFLICT DO NOTHING;

-- name: known
SELECT count(*) FROM (SELECT FROM packages LIMIT :most) AS packages;

-- name: begin_comparison
-- Nothing comes back if somebody is at it, or nothing is due.
UPDATE tracking SET comparing = now() + interval '1 hour'
WHERE compared <= now() - make_interval(secs => :period) AND comparing <= now()
RETURNING compared = '-infinity' AS is_first;

-- name: give_up_comparison
UPDATE tracking SET comparing = now() + make_interval(secs => :seconds);

-- name: go_on_comparing
UPDATE tracking SET comparing = now() + interval '1 hour';

-- name: clear_listing
DELETE FROM listing;

-- name: put_listing
INSERT INTO listing SELECT DISTINCT name FROM unnest(CAST(:names AS text[])) AS name
ORDER BY name ON CONFLICT DO NOTHING;

-- name: enter_differing
-- Projects of the list that we lack or that changed since we read them. Drift is only what the
-- journal should have told by now, and did not.
WITH differing AS (
    SELECT name, said.serial, COALESCE(packages.popularity, 0) AS popularity,
        package_id IS NULL AS is_new,
        said.serial IS NULL OR said.serial <= tracking.serial AS is_late
    FROM unnest(CAST(:names AS text[]), CAST(:serials AS bigint[])) AS said (name, serial)
    CROSS JOIN tracking
    LEFT JOIN packages USING (name) LEFT JOIN project_jobs USING (name)
    WHERE project_jobs.name IS NULL AND (
        (package_id IS NULL AND :everything) OR said.serial > packages.serial
        OR status = 'deleted' OR (last_read IS NULL AND package_id IS NOT NULL)
    )
), entered AS (
    INSERT INTO project_jobs (name, serial, reason, popularity)
    SELECT DISTINCT ON (name) name, serial, 'in the list', popularity FROM differing
    ORDER BY name, serial DESC NULLS LAST ON CONFLICT DO NOTHING
)
SELECT count(*) FILTER (WHERE is_new) AS unknown,
    count(*) FILTER (WHERE is_late AND NOT is_new) AS stale
FROM differing;

-- name: enter_absent
-- The list may be older than what was added just now.
WITH entered AS (
    INSERT INTO project_jobs (name, reason, popularity)
    SELECT name, 'not in the list', popularity FROM packages
    WHERE status NOT IN ('deleted', 'quarantined') AND added < now() - interval '1 day'
        AND NOT EXISTS (SELECT FROM listing WHERE listing.name = packages.name)
    ORDER BY name ON CONFLICT DO NOTHING RETURNING name
)
SELECT count(*) FROM entered;

-- name: end_comparison
UPDATE tracking SET compared = now(), comparing = '-infinity',
    unknown = :unknown, stale = :stale, absent = :absent;

-- name: is_count_due
SELECT counted <= now() - make_interval(secs => :period) FROM tracking;

-- name: end_count
UPDATE tracking SET counted = now();

-- name: enter_unread
INSERT INTO project_jobs (name, reason, popularity)
SELECT name, :reason, popularity FROM packages
WHERE name = ANY(:names) AND follow <> '' AND last_read IS NULL
ORDER BY name ON CONFLICT DO NOTHING;

-- name: enter_counted
-- What becomes known by its popularity is followed for that.
INSERT INTO packages (name, display_name, popularity, follow, followed, policy)
SELECT DISTINCT ON (name) name, name, popularity, :follow,
    CASE WHEN :follow = 'all' THEN began ELSE now() END, :policy
FROM unnest(CAST(:names AS text[]), CAST(:popularities AS integer[])) AS said (name, popularity)
CROSS JOIN tracking
ORDER BY name ON CONFLICT DO NOTHING;

-- name: follow_counted
UPDATE packages SET follow = 'popular', followed = now(), last_read = NULL,
    next_read = '-infinity'
WHERE name = ANY(:names) AND follow IN ('', 'needed', 'all');

-- name: unfollow_popular
-- What was among the most popular before, and is not any more.
UPDATE packages SET follow = '' WHERE follow = 'popular' AND name <> ALL(:names);

-- name: put_counts
-- Returns the versions that wait elsewhere in the queue now.
WITH news AS (
    UPDATE packages SET popularity = said.popularity
    FROM unnest(CAST(:names AS text[]), CAST(:popularities AS integer[])) AS said (name, popularity)
    WHERE packages.name = said.name AND packages.popularity <> said.popularity
    RETURNING package_id, packages.name, packages.popularity
), jobs AS (
    UPDATE project_jobs SET popularity = news.popularity FROM news
    WHERE project_jobs.name = news.name
)
SELECT version_id FROM news JOIN versions USING (package_id) JOIN queue USING (version_id)
GROUP BY version_id;

-- name: enter_needed
-- What builds of followed packages lacked. They get another chance when it is there.
INSERT INTO packages (name, display_name, follow, followed, policy)
SELECT DISTINCT needs, needs, 'needed', now(), 'missing'
FROM builds JOIN versions USING (version_id) JOIN packages USING (package_id)
WHERE needs <> '' AND follow IN ('listed', 'needed') ORDER BY needs
ON CONFLICT (name) DO UPDATE SET follow = 'needed', followed = now(), last_read = NULL
WHERE packages.follow = ''
RETURNING name;
