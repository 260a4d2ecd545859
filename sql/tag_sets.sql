-- Sets of tags: each is stored once, and found by a digest.

-- name: put
-- In one order for all writers: no two of them can wait for each other.
INSERT INTO tag_sets (tags)
SELECT DISTINCT tags FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS rows (tags text[])
WHERE tags <> '{}' ORDER BY tags ON CONFLICT DO NOTHING;

-- name: id
SELECT tag_set_id FROM tag_sets WHERE tags_digest(tags) = tags_digest(CAST(:tags AS text[]));

-- name: find
SELECT tag_set_id, tag_sets.tags
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS rows (tags text[])
JOIN tag_sets ON tags_digest(tag_sets.tags) = tags_digest(rows.tags);

-- name: load
SELECT tag_set_id, tags FROM tag_sets WHERE tag_set_id = ANY(:tag_set_ids);
