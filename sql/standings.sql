-- Why a version stands as it does. Each reads what belongs to one package or one target, or so
-- many rows at most, however large the farm.

-- name: now
SELECT now();

-- name: package
-- By its own name first, then by any spelling that leads to it.
SELECT package_id, name, skip FROM (
    SELECT package_id, name, skip, 0 AS detour FROM packages WHERE name = :name
    UNION ALL
    SELECT package_id, packages.name, skip, 1
    FROM package_names JOIN packages USING (package_id)
    WHERE package_names.name = ANY(:spellings)
) AS found
ORDER BY detour, name LIMIT 1;

-- name: near_names
-- Names one slip away, and neighbours in the dictionary: those begin alike.
SELECT name FROM packages WHERE name = ANY(:slips)
UNION
(SELECT name FROM packages WHERE name > :name ORDER BY name LIMIT 200)
UNION
(SELECT name FROM packages WHERE name < :name ORDER BY name DESC LIMIT 200);

-- name: versions
SELECT version_id, version, released, lane, skip FROM versions WHERE package_id = :package_id;

-- name: target_skips
SELECT target_id, version_id IS NOT NULL AS is_of_version, reason FROM skips
WHERE package_id = :package_id AND COALESCE(version_id, :version_id) = :version_id;

-- name: attempts
SELECT DISTINCT ON (target_id) target_id, outcome, kind, cause, fix, log, ended
FROM builds WHERE version_id = :version_id
ORDER BY target_id, build_id DESC;

-- name: wheels
SELECT name AS filename, published, tags FROM files JOIN tag_sets USING (tag_set_id)
WHERE version_id = :version_id ORDER BY file_id DESC;

-- name: running
SELECT leases.target_id, label AS slave, phase, granted AS since, seconds AS usual_seconds
FROM leases JOIN slaves USING (slave_id) JOIN versions USING (version_id)
LEFT JOIN costs ON costs.package_id = versions.package_id AND costs.target_id = leases.target_id
WHERE version_id = :version_id;

-- name: places
SELECT target_id, lane, size, CASE WHEN NOT ready THEN not_before END AS not_before
FROM queue WHERE version_id = :version_id;

-- name: lanes_before
-- What is ready in more urgent lanes of the target.
SELECT COALESCE(sum(waiting), 0) FROM (
    SELECT waiting FROM queue_counts WHERE target_id = :target_id AND lane < :lane AND ready
    UNION ALL
    SELECT waiting FROM queue_changes WHERE target_id = :target_id AND lane < :lane AND ready
) AS counts;

-- name: ahead
-- What comes first in the row's own lane: a few probes of queue_order for each size.
SELECT count(*) FROM (
    SELECT FROM queue AS own
    CROSS JOIN generate_series(0, CAST(:largest AS integer)) AS sizes (size)
    CROSS JOIN LATERAL (
        (SELECT FROM queue
        WHERE ready AND target_id = own.target_id AND queue.size = sizes.size
            AND lane = own.lane AND popularity > own.popularity
        LIMIT :most)
        UNION ALL
        (SELECT FROM queue
        WHERE ready AND target_id = own.target_id AND queue.size = sizes.size
            AND lane = own.lane AND popularity = own.popularity AND released > own.released
        LIMIT :most)
        UNION ALL
        (SELECT FROM queue
        WHERE ready AND target_id = own.target_id AND queue.size = sizes.size
            AND lane = own.lane AND popularity = own.popularity AND released = own.released
            AND version_id < own.version_id
        LIMIT :most)
    ) AS better
    WHERE own.version_id = :version_id AND own.target_id = :target_id
    LIMIT :most
) AS all_better;

-- name: slaves
SELECT slave_id, label, target_id, size, present, last_seen, wish, quarantined, unfit,
    CASE WHEN EXISTS (SELECT FROM leases WHERE leases.slave_id = slaves.slave_id)
    THEN 'a build' ELSE '' END AS build
FROM slaves WHERE present ORDER BY label;

-- name: paces
-- Of the newest builds of some hours: a target with none among them is said to be unknown.
SELECT target_id, avg(extract(epoch FROM ended - started)) AS seconds
FROM (
    SELECT target_id, started, ended, kind FROM builds
    WHERE ended > now() - interval '6 hours' ORDER BY ended DESC LIMIT 5000
) AS newest
WHERE kind <> 'slave lost' GROUP BY target_id;
