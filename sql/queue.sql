-- Keeping the table queue equal to the rule, for the versions that changed.

-- name: targets
SELECT target_id, name, python, rank, active, size, tag_set_id FROM targets;

-- name: lock
-- Two writers of one version take turns here: each then sees what the other committed. Targets
-- are read after this, so that whoever comes after a change of targets knows of it.
SELECT version_id FROM versions WHERE version_id = ANY(:version_ids) ORDER BY version_id
FOR NO KEY UPDATE;

-- name: rows
-- Read before the facts: a claim takes no turn, and may come in between. Its lease is seen then,
-- and the row that it took is not missed.
SELECT version_id, target_id, lane, popularity, released, not_before, attempts, size, avoid
FROM queue WHERE version_id = ANY(:version_ids);

-- name: facts
SELECT version_id, popularity, released, lane,
    CASE WHEN status = 'deleted' THEN 'deleted from PyPI'
        WHEN status = 'quarantined' THEN 'in quarantine on PyPI'
        WHEN packages.skip <> '' THEN packages.skip ELSE versions.skip END AS skip,
    yanked, prereleases, keep, policy, requires_python, pypi_tag_set_id,
    sdist_name <> '' AND sdist_sha256 <> '' AS has_sdist,
    CASE WHEN prereleases <> 'build' THEN version END AS version,
    CASE WHEN keep IS NULL THEN 0 ELSE (
        SELECT count(*) FROM versions AS newer
        WHERE newer.package_id = versions.package_id AND newer.sdist_name <> ''
            AND (COALESCE(newer.released, '-infinity'), newer.version_id)
                > (COALESCE(versions.released, '-infinity'), versions.version_id)
    ) END AS newer,
    ARRAY(SELECT DISTINCT tag_set_id FROM files
        WHERE files.version_id = versions.version_id) AS file_tag_set_ids,
    ARRAY(SELECT target_id FROM leases
        WHERE leases.version_id = versions.version_id ORDER BY 1) AS building,
    (SELECT jsonb_object_agg(target_id, reason) FROM skips
        WHERE skips.package_id = versions.package_id
            AND (skips.version_id IS NULL OR skips.version_id = versions.version_id)
    ) AS target_skips,
    (SELECT jsonb_object_agg(target_id, size) FROM costs
        WHERE costs.package_id = versions.package_id AND size > 0
    ) AS sizes,
    EXISTS (SELECT FROM builds WHERE builds.version_id = versions.version_id
        AND outcome = 'failure' AND build_id > past) AS has_failed
FROM versions JOIN packages USING (package_id)
WHERE version_id = ANY(:version_ids);

-- name: failures
-- Those that count. Others are past: what was in their way has changed since.
SELECT version_id, target_id, build_id, kind, ended, slave_id, builds.size
FROM builds JOIN versions USING (version_id) JOIN packages USING (package_id)
JOIN targets USING (target_id)
WHERE version_id = ANY(:version_ids) AND outcome = 'failure' AND build_id > past
    AND NOT (kind = 'missing header or tool' AND build_id <= image_since)
    AND NOT (kind = 'needs network' AND network AND NOT network_used)
    AND NOT (kind = 'build dependency unavailable' AND build_id <= COALESCE((
        SELECT awaited.news FROM packages AS awaited WHERE awaited.name = needs), 0))
ORDER BY build_id;

-- name: delete
DELETE FROM queue USING unnest(CAST(:version_ids AS integer[]), CAST(:target_ids AS smallint[]))
    AS gone (version_id, target_id)
WHERE queue.version_id = gone.version_id AND queue.target_id = gone.target_id;

-- name: insert
INSERT INTO queue (version_id, target_id, lane, popularity, released, not_before, attempts, size,
    avoid, ready)
SELECT *, not_before <= now() FROM unnest(
    CAST(:version_ids AS integer[]), CAST(:target_ids AS smallint[]), CAST(:lanes AS smallint[]),
    CAST(:popularities AS integer[]), CAST(:releases AS timestamptz[]),
    CAST(:not_befores AS timestamptz[]), CAST(:attempts AS smallint[]),
    CAST(:sizes AS smallint[]), CAST(:avoids AS integer[])
) AS added (version_id, target_id, lane, popularity, released, not_before, attempts, size, avoid);

-- name: update
-- Not an upsert: a row that was claimed meanwhile must not come back.
UPDATE queue SET lane = news.lane, popularity = news.popularity, released = news.released,
    not_before = news.not_before, attempts = news.attempts, size = news.size,
    avoid = news.avoid, ready = news.not_before <= now()
FROM unnest(
    CAST(:version_ids AS integer[]), CAST(:target_ids AS smallint[]), CAST(:lanes AS smallint[]),
    CAST(:popularities AS integer[]), CAST(:releases AS timestamptz[]),
    CAST(:not_befores AS timestamptz[]), CAST(:attempts AS smallint[]),
    CAST(:sizes AS smallint[]), CAST(:avoids AS integer[])
) AS news (version_id, target_id, lane, popularity, released, not_before, attempts, size, avoid)
WHERE queue.version_id = news.version_id AND queue.target_id = news.target_id;

-- name: fall_due
-- Retries whose time has come. A time that lies further off than any delay comes from a clock
-- that has stepped back since.
UPDATE queue SET ready = true
WHERE NOT ready AND (not_before <= now() OR not_before > now() + :longest);

-- name: fold_counts
WITH changes AS (
    DELETE FROM queue_changes RETURNING target_id, lane, ready, waiting
)
INSERT INTO queue_counts
SELECT target_id, lane, ready, sum(waiting) FROM changes GROUP BY 1, 2, 3
ON CONFLICT (target_id, lane, ready)
    DO UPDATE SET waiting = queue_counts.waiting + EXCLUDED.waiting;

-- name: judge_again
INSERT INTO rejudge
SELECT DISTINCT version_id, version_id FROM unnest(CAST(:version_ids AS integer[])) AS version_id
ON CONFLICT DO NOTHING;

-- name: awaited
-- Builds that failed for want of one of these packages get another chance.
WITH offered AS (
    UPDATE packages SET news = COALESCE(pg_sequence_last_value('leases_build_id_seq'), 0)
    WHERE package_id = ANY(:package_ids)
        AND EXISTS (SELECT FROM builds WHERE needs = name AND needs <> '')
    RETURNING name
)
SELECT DISTINCT version_id FROM builds JOIN offered ON needs = name AND needs <> '';

-- name: judge_siblings
-- Where only the newest versions of a package are built, a newer one pushes an old one out.
INSERT INTO rejudge
SELECT version_id, version_id FROM versions JOIN packages USING (package_id)
WHERE package_id = ANY(:package_ids) AND keep IS NOT NULL AND lane IS NOT NULL
ON CONFLICT DO NOTHING;

-- name: forget_ranges
DELETE FROM rejudge;

-- name: judge_all_again
INSERT INTO rejudge VALUES (0, 2147483647) ON CONFLICT DO NOTHING;

-- name: take_named
-- Single versions first: each is news of its own.
DELETE FROM rejudge WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM rejudge WHERE first = last LIMIT :batch FOR UPDATE SKIP LOCKED
)) RETURNING first;

-- name: range
SELECT first, last FROM rejudge ORDER BY last - first LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: wanted_in_range
-- Newest first: people wait for these.
SELECT version_id FROM versions
WHERE version_id BETWEEN :first AND :last AND lane IS NOT NULL
ORDER BY version_id DESC LIMIT :batch;

-- name: shrink_range
UPDATE rejudge SET last = :left WHERE first = :first AND last = :last;

-- name: end_range
DELETE FROM rejudge WHERE first = :first AND last = :last;

-- name: page_jobs
INSERT INTO page_jobs (package_id, reason, requested)
SELECT DISTINCT package_id, :reason, now() FROM versions WHERE version_id = ANY(:version_ids)
ORDER BY package_id
ON CONFLICT (package_id) DO UPDATE SET
    requested = EXCLUDED.requested, reason = EXCLUDED.reason, not_before = '-infinity';
