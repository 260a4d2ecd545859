-- The whole farm, now: for monitors. Each reads few rows, however large the farm.

-- name: counts
-- A retry within half a minute counts as waiting, a later one does not. Where much is to do, it
-- is enough to know that it is much.
SELECT GREATEST(0, ready + soon) AS queued, GREATEST(0, put_off - soon) AS later, pages
FROM (
    SELECT COALESCE(sum(waiting) FILTER (WHERE ready), 0) AS ready,
        COALESCE(sum(waiting) FILTER (WHERE NOT ready), 0) AS put_off
    FROM (
        SELECT ready, waiting FROM queue_counts
        UNION ALL
        SELECT ready, waiting FROM queue_changes
    ) AS counts
) AS lengths,
(
    SELECT count(*) AS soon FROM (
        SELECT FROM queue WHERE NOT ready AND not_before <= now() + interval '30 seconds'
        LIMIT 10000
    ) AS due
) AS retries,
(
    SELECT (SELECT count(*) FROM (SELECT FROM page_jobs LIMIT 10000) AS packages)
        + (SELECT count(*) FROM site_jobs) AS pages
) AS jobs;

-- name: running
SELECT build_id, packages.name AS package, version, targets.name AS target,
    slaves.label AS slave, phase, granted AS since
FROM leases JOIN versions USING (version_id) JOIN packages USING (package_id)
JOIN targets USING (target_id) JOIN slaves USING (slave_id)
ORDER BY build_id LIMIT 2000;

-- name: waiting
-- The heads of the queues, by turns: one probe of queue_order for each target and size. Then the
-- retries that fall due first.
WITH heads AS (
    SELECT head.version_id, targets.target_id, NULL::timestamptz AS not_before, head.attempts,
        row_number() OVER (
            PARTITION BY targets.target_id
            ORDER BY lane, popularity DESC, released DESC, version_id
        ) AS place
    FROM targets CROSS JOIN generate_series(0, CAST(:largest AS integer)) AS sizes (size)
    CROSS JOIN LATERAL (
        SELECT version_id, lane, popularity, released, attempts FROM queue
        WHERE ready AND queue.target_id = targets.target_id AND queue.size = sizes.size
        ORDER BY lane, popularity DESC, released DESC, version_id LIMIT 20
    ) AS head
    ORDER BY place, target_id LIMIT 80
), retries AS (
    SELECT version_id, target_id, not_before, attempts,
        1000 + row_number() OVER (ORDER BY not_before) AS place
    FROM queue WHERE NOT ready ORDER BY not_before LIMIT 20
)
SELECT packages.name AS package, version, targets.name AS target, not_before,
    CASE WHEN attempts = 0 THEN '' ELSE COALESCE((
        SELECT cause FROM builds
        WHERE builds.version_id = first.version_id AND builds.target_id = first.target_id
        ORDER BY build_id DESC LIMIT 1
    ), '') END AS cause
FROM (SELECT * FROM heads UNION ALL SELECT * FROM retries) AS first
JOIN versions USING (version_id) JOIN packages USING (package_id) JOIN targets USING (target_id)
ORDER BY place, first.target_id;

-- name: ended
SELECT build_id, packages.name AS package, version, targets.name AS target, outcome, seconds,
    kind, cause, fix, log,
    COALESCE((SELECT array_agg(files.name ORDER BY files.name) FROM files
        WHERE files.build_id = builds.build_id), '{}') AS files
FROM builds JOIN versions USING (version_id) JOIN packages USING (package_id)
JOIN targets USING (target_id)
ORDER BY ended DESC LIMIT 100;
