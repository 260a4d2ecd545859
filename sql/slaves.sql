-- Slaves, as operators see and steer them.

-- name: slaves
-- A slave builds one thing at a time; the newest lease is told.
SELECT slave_id, slaves.label, slaves.target_id, targets.name AS target, slaves.size,
    memory, present, last_seen, wish, quarantined, unfit,
    COALESCE(packages.name || ' ' || version, '') AS build
FROM slaves JOIN targets USING (target_id)
LEFT JOIN (
    SELECT DISTINCT ON (slave_id) slave_id, version_id FROM leases
    ORDER BY slave_id, build_id DESC
) AS newest USING (slave_id)
LEFT JOIN versions USING (version_id) LEFT JOIN packages USING (package_id)
WHERE CAST(:labels AS text[]) IS NULL OR slaves.label = ANY(:labels)
ORDER BY present DESC, slaves.label LIMIT 2000;

-- name: labels
SELECT label FROM slaves;

-- name: wish
UPDATE slaves SET wish = :wish WHERE slave_id = ANY(:slave_ids) AND wish <> :wish
RETURNING slave_id;

-- name: forgive
UPDATE slaves SET quarantined = '-infinity', blame = 0, quarantines = 0
WHERE slave_id = ANY(:slave_ids) AND (quarantined > now() OR blame > 0 OR quarantines > 0)
RETURNING slave_id;

-- name: skip
-- What these slaves build, on their targets. What is delivered already is left alone.
INSERT INTO skips (package_id, version_id, target_id, reason)
SELECT package_id, version_id, target_id, :reason
FROM leases JOIN versions USING (version_id)
WHERE slave_id = ANY(:slave_ids) AND report IS NULL
ON CONFLICT (package_id, COALESCE(version_id, 0), target_id)
    DO UPDATE SET reason = EXCLUDED.reason;

-- name: end_builds
-- Without blame. In one order, as all writers of leases do, so that no two can wait for each
-- other.
DELETE FROM leases WHERE build_id IN (
    SELECT build_id FROM leases WHERE slave_id = ANY(:slave_ids) AND report IS NULL
    ORDER BY build_id FOR UPDATE
) AND report IS NULL
RETURNING slave_id, version_id;
