-- Targets, as operators see and change them.

-- name: list
SELECT targets.target_id, name, label, python, rank, active AS is_active,
    COALESCE(slaves, 0) AS slaves, COALESCE(largest, 0) AS largest
FROM targets LEFT JOIN (
    SELECT target_id, count(*) AS slaves, max(memory) AS largest
    FROM slaves WHERE present GROUP BY target_id
) AS present USING (target_id)
ORDER BY rank, name;

-- name: lengths
-- What waits, without a look at the queue: some dozen rows, and changes of the last second.
SELECT target_id, lane, ready, sum(waiting) AS waiting FROM (
    SELECT target_id, lane, ready, waiting FROM queue_counts
    UNION ALL
    SELECT target_id, lane, ready, waiting FROM queue_changes
) AS counts
GROUP BY target_id, lane, ready HAVING sum(waiting) > 0 ORDER BY target_id, lane;

-- name: lock
-- Two operators take turns.
SELECT target_id, name, label, rank, active FROM targets WHERE name = ANY(:names)
ORDER BY target_id FOR NO KEY UPDATE;

-- name: names
SELECT name FROM targets ORDER BY name;

-- name: add
INSERT INTO targets (name, label, python, rank, active, tag_set_id)
VALUES (:name, :label, :python, :rank, :active, :tag_set_id)
ON CONFLICT (name) DO NOTHING RETURNING target_id;

-- name: change
UPDATE targets SET active = COALESCE(CAST(:active AS boolean), active),
    rank = COALESCE(CAST(:rank AS integer), rank),
    label = COALESCE(CAST(:label AS text), label)
WHERE target_id = ANY(:target_ids)
    AND (active, rank, label) IS DISTINCT FROM (COALESCE(CAST(:active AS boolean), active),
        COALESCE(CAST(:rank AS integer), rank), COALESCE(CAST(:label AS text), label))
RETURNING name;

-- name: skip
INSERT INTO skips (package_id, version_id, target_id, reason)
VALUES (:package_id, :version_id, :target_id, :reason)
ON CONFLICT (package_id, COALESCE(version_id, 0), target_id)
    DO UPDATE SET reason = EXCLUDED.reason WHERE skips.reason <> EXCLUDED.reason
RETURNING target_id;

-- name: unskip
DELETE FROM skips
WHERE package_id = :package_id AND COALESCE(version_id, 0) = COALESCE(CAST(:version_id AS integer), 0)
    AND target_id = :target_id
RETURNING target_id;
