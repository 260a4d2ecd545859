-- The whole farm, now: for monitors. Each reads few rows, however large the farm.

-- name: counts
-- A retry within half a minute counts as waiting, a later one does not.
SELECT
    (SELECT count(*) FROM queue WHERE not_before <= now() + interval '30 seconds') AS queued,
    (SELECT count(*) FROM queue WHERE not_before > now() + interval '30 seconds') AS later,
    (SELECT count(*) FROM page_jobs) + (SELECT count(*) FROM site_jobs) AS pages;

-- name: running
SELECT build_id, packages.name AS package, version, targets.name AS target,
    slaves.label AS slave, phase, granted AS since
FROM leases JOIN versions USING (version_id) JOIN packages USING (package_id)
JOIN targets USING (target_id) JOIN slaves USING (slave_id)
ORDER BY build_id LIMIT 2000;

-- name: waiting
SELECT packages.name AS package, version, targets.name AS target,
    CASE WHEN not_before > now() THEN not_before END AS not_before,
    COALESCE((
        SELECT cause FROM builds
        WHERE builds.version_id = queue.version_id AND builds.target_id = queue.target_id
        ORDER BY build_id DESC LIMIT 1
    ), '') AS cause
FROM queue JOIN versions USING (version_id) JOIN packages USING (package_id)
JOIN targets USING (target_id)
ORDER BY queue.target_id, queue.lane, queue.popularity DESC, queue.released DESC, version_id
LIMIT 100;

-- name: ended
SELECT build_id, packages.name AS package, version, targets.name AS target, outcome, seconds,
    kind, cause, fix, log,
    COALESCE((SELECT array_agg(files.name ORDER BY files.name) FROM files
        WHERE files.build_id = builds.build_id), '{}') AS files
FROM builds JOIN versions USING (version_id) JOIN packages USING (package_id)
JOIN targets USING (target_id)
ORDER BY ended DESC LIMIT 100;

-- name: slaves
SELECT slaves.label, targets.name AS target,
    CASE WHEN NOT present THEN 'gone'
        WHEN last_seen < now() - make_interval(secs => :silence) THEN 'silent'
        WHEN build_id IS NOT NULL THEN 'building' ELSE 'idle' END AS state,
    COALESCE(packages.name || ' ' || version, '') AS task, last_seen
FROM slaves JOIN targets USING (target_id)
LEFT JOIN leases USING (slave_id) LEFT JOIN versions USING (version_id)
LEFT JOIN packages USING (package_id)
ORDER BY slaves.label LIMIT 2000;
