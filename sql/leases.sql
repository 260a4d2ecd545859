-- Slaves, and the leases they hold.

-- name: put_tag_set
INSERT INTO tag_sets (tags) VALUES (:tags) ON CONFLICT (tags_digest(tags)) DO NOTHING;

-- name: tag_set_id
SELECT tag_set_id FROM tag_sets WHERE tags_digest(tags) = tags_digest(CAST(:tags AS text[]));

-- name: put_target
-- A target that comes back with another Python or other tags must be judged again.
INSERT INTO targets (name, label, python, rank, active, tag_set_id)
VALUES (:name, :label, :python, :rank, :active, :tag_set_id)
ON CONFLICT (name) DO UPDATE SET
    python = EXCLUDED.python, tag_set_id = EXCLUDED.tag_set_id, settled = false
WHERE (targets.python, targets.tag_set_id) <> (EXCLUDED.python, EXCLUDED.tag_set_id);

-- name: target
SELECT target_id, active FROM targets WHERE name = :name;

-- name: put_slave
INSERT INTO slaves (label, target_id, cores, memory, disk, sandbox)
VALUES (:label, :target_id, :cores, :memory, :disk, :sandbox)
ON CONFLICT (label) DO UPDATE SET
    target_id = EXCLUDED.target_id, cores = EXCLUDED.cores, memory = EXCLUDED.memory,
    disk = EXCLUDED.disk, sandbox = EXCLUDED.sandbox, present = true, last_seen = now()
RETURNING slave_id;

-- name: seen
UPDATE slaves SET last_seen = now(), present = true, memory_free = :memory_free,
    disk_free = :disk_free, load = :load, temperature = :temperature
WHERE slave_id = :slave_id;

-- name: gone
UPDATE slaves SET present = false WHERE slave_id = :slave_id;

-- name: held
SELECT build_id, token, version_id FROM leases WHERE slave_id = :slave_id;

-- name: claim
-- The best row of this target's queue becomes a lease. Rows that another dispatcher is just
-- claiming are passed over.
WITH best AS (
    SELECT queue.version_id, queue.target_id FROM queue
    JOIN slaves USING (target_id)
    WHERE slave_id = :slave_id AND not_before <= now()
    ORDER BY lane, queue.popularity DESC, queue.released DESC, version_id
    LIMIT 1 FOR UPDATE OF queue SKIP LOCKED
), taken AS (
    DELETE FROM queue USING best
    WHERE queue.version_id = best.version_id AND queue.target_id = best.target_id
    RETURNING queue.version_id, queue.target_id
)
INSERT INTO leases (token, version_id, target_id, slave_id, granted, expires, phase)
SELECT :token, version_id, target_id, :slave_id, now(),
    now() + make_interval(secs => :seconds), 'granted'
FROM taken RETURNING build_id;

-- name: order
-- What the lease that this slave holds asks for; granting it again repeats it.
SELECT token, build_id, name AS package, version, sdist_name, sdist_url, sdist_sha256,
    sdist_size, COALESCE(tags, '{}') AS pypi_tags
FROM leases JOIN versions USING (version_id) JOIN packages USING (package_id)
LEFT JOIN tag_sets ON tag_set_id = pypi_tag_set_id
WHERE slave_id = :slave_id AND report IS NULL
ORDER BY build_id LIMIT 1;

-- name: extend
UPDATE leases SET expires = now() + make_interval(secs => :seconds), phase = :phase,
    log_tail = :log_tail
WHERE token = :token AND slave_id = :slave_id RETURNING build_id;

-- name: revive
-- A slave that was thought lost is back before anybody else took its build.
WITH lost AS (
    DELETE FROM builds USING queue
    WHERE token = :token AND slave_id = :slave_id AND kind = 'slave lost'
        AND queue.version_id = builds.version_id AND queue.target_id = builds.target_id
    RETURNING build_id, token, builds.version_id, builds.target_id, slave_id, started
), taken AS (
    DELETE FROM queue USING lost
    WHERE queue.version_id = lost.version_id AND queue.target_id = lost.target_id
)
INSERT INTO leases (build_id, token, version_id, target_id, slave_id, granted, expires, phase)
OVERRIDING SYSTEM VALUE
SELECT build_id, token, version_id, target_id, slave_id, started,
    now() + make_interval(secs => :seconds), 'back'
FROM lost RETURNING build_id;

-- name: report
UPDATE leases SET report = CAST(:report AS jsonb), phase = 'delivering',
    expires = now() + make_interval(secs => :seconds)
WHERE token = :token AND slave_id = :slave_id RETURNING build_id;

-- name: expect_upload
INSERT INTO uploads (build_id, name, size, sha256) VALUES (:build_id, :name, :size, :sha256)
ON CONFLICT (build_id, name) DO NOTHING;

-- name: lease
SELECT build_id, version_id, package_id, report FROM leases JOIN versions USING (version_id)
WHERE token = :token AND slave_id = :slave_id FOR UPDATE OF leases;

-- name: uploads
SELECT name, placed, refused FROM uploads WHERE build_id = :build_id ORDER BY name;

-- name: is_on_record
SELECT EXISTS (SELECT FROM builds WHERE token = :token AND kind <> 'slave lost');

-- name: put_build
INSERT INTO builds (build_id, token, version_id, target_id, slave_id, started, ended, seconds,
    outcome, kind, cause, fix, peak_memory, cpu_seconds, sandbox, network_used, phases,
    environment, log)
SELECT build_id, token, version_id, target_id, slave_id, granted, now(), :seconds,
    :outcome, :kind, :cause, :fix, :peak_memory, :cpu_seconds, :sandbox, :network_used,
    CAST(:phases AS jsonb), CAST(:environment AS jsonb), :log
FROM leases WHERE build_id = :build_id;

-- name: put_lost
INSERT INTO builds (build_id, token, version_id, target_id, slave_id, started, ended, seconds,
    outcome, kind, cause)
SELECT build_id, token, version_id, target_id, slave_id, granted, now(),
    extract(epoch FROM now() - granted), 'failure', 'slave lost', :cause
FROM leases WHERE build_id = :build_id;

-- name: put_file
INSERT INTO files (version_id, build_id, name, size, sha256, metadata_sha256, tag_set_id,
    requires_python, published)
VALUES (:version_id, :build_id, :name, :size, :sha256, :metadata_sha256, :tag_set_id,
    :requires_python, now())
ON CONFLICT (name) DO NOTHING;

-- name: put_summary
UPDATE packages SET summary = :summary WHERE package_id = :package_id AND summary <> :summary;

-- name: end
DELETE FROM leases WHERE build_id = :build_id;

-- name: expired
SELECT build_id, version_id, label FROM leases JOIN slaves USING (slave_id)
WHERE expires < now() ORDER BY expires LIMIT 1000 FOR UPDATE OF leases SKIP LOCKED;

-- name: unsettled
SELECT target_id FROM targets WHERE NOT settled;

-- name: settle
UPDATE targets SET settled = true WHERE target_id = ANY(:target_ids) AND NOT settled;
