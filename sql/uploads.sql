-- The files that leases are to deliver, as the receiver sees them.

-- name: expected
SELECT build_id, packages.name AS package, version, tags, uploads.size, sha256, placed, refused
FROM leases
JOIN uploads USING (build_id)
JOIN versions USING (version_id)
JOIN packages USING (package_id)
JOIN targets USING (target_id)
JOIN tag_sets USING (tag_set_id)
WHERE token = :token AND uploads.name = :name;

-- name: record_placed
-- Saying the same again is harmless; a file that was refused stays refused.
UPDATE uploads SET placed = CAST(:placed AS jsonb)
WHERE build_id = :build_id AND name = :name AND refused = '';

-- name: record_refused
UPDATE uploads SET refused = :reason
WHERE build_id = :build_id AND name = :name AND placed IS NULL;

-- name: live_build_ids
SELECT build_id FROM leases;
