-- Slaves, and the leases they hold. Statements take arrays: one for all that a turn of the
-- dispatcher has to do of a kind.

-- name: put_target
-- Nothing comes back if it is known as it is. Another Python or other tags are news.
INSERT INTO targets (name, label, python, rank, active, tag_set_id)
VALUES (:name, :label, :python, :rank, :active, :tag_set_id)
ON CONFLICT (name) DO UPDATE SET python = EXCLUDED.python, tag_set_id = EXCLUDED.tag_set_id
WHERE (targets.python, targets.tag_set_id) <> (EXCLUDED.python, EXCLUDED.tag_set_id)
RETURNING target_id;

-- name: target
SELECT target_id FROM targets WHERE name = :name;

-- name: runs
SELECT run, past_runs FROM slaves WHERE label = :label FOR NO KEY UPDATE;

-- name: put_slave
-- A process that takes over the name of one that was to leave may work.
INSERT INTO slaves (label, target_id, cores, memory, disk, sandbox, run, size)
VALUES (:label, :target_id, :cores, :memory, :disk, :sandbox, :run, :size)
ON CONFLICT (label) DO UPDATE SET
    target_id = EXCLUDED.target_id, cores = EXCLUDED.cores, memory = EXCLUDED.memory,
    disk = EXCLUDED.disk, sandbox = EXCLUDED.sandbox, run = EXCLUDED.run, size = EXCLUDED.size,
    present = true, last_seen = now(),
    past_runs = CASE WHEN slaves.run = EXCLUDED.run THEN slaves.past_runs
        ELSE (slaves.run || slaves.past_runs)[1:8] END,
    wish = CASE WHEN slaves.wish = 'leave' AND slaves.run <> EXCLUDED.run THEN 'work'
        ELSE slaves.wish END
RETURNING slave_id;

-- name: grow_target
UPDATE targets SET size = :size WHERE target_id = :target_id AND size < :size RETURNING size;

-- name: put_image
INSERT INTO images (target_id, image) VALUES (:target_id, :image) ON CONFLICT DO NOTHING
RETURNING image;

-- name: begin_image
-- What failed for want of something installed gets another chance.
UPDATE targets SET image_since = COALESCE(pg_sequence_last_value('leases_build_id_seq'), 0)
WHERE target_id = :target_id;

-- name: failed_for
SELECT DISTINCT version_id FROM builds WHERE target_id = :target_id AND kind = :kind
    AND kind IN ('missing header or tool', 'out of memory');

-- name: seen
UPDATE slaves SET last_seen = now(), present = true, memory_free = COALESCE(said.memory_free, 0),
    disk_free = COALESCE(said.disk_free, 0), load = said.load, temperature = said.temperature,
    unfit = said.unfit
FROM unnest(
    CAST(:slave_ids AS integer[]), CAST(:memory_free AS bigint[]), CAST(:disk_free AS bigint[]),
    CAST(:loads AS real[]), CAST(:temperatures AS real[]), CAST(:unfit AS text[])
) AS said (slave_id, memory_free, disk_free, load, temperature, unfit)
WHERE slaves.slave_id = said.slave_id;

-- name: gone
-- Unless another process speaks as this slave by now.
UPDATE slaves SET present = false WHERE slave_id = :slave_id AND run = :run RETURNING slave_id;

-- name: held
SELECT build_id, token, version_id FROM leases WHERE slave_id = :slave_id ORDER BY build_id;

-- name: asking
-- The slaves that ask for work, and what each holds without having reported it.
SELECT slave_id, slaves.label, target_id, slaves.size, present, last_seen, wish, quarantined,
    unfit, run, active AS is_active, now() AS now,
    lease.build_id, lease.version_id
FROM slaves JOIN targets USING (target_id)
LEFT JOIN LATERAL (
    SELECT build_id, version_id FROM leases
    WHERE leases.slave_id = slaves.slave_id AND report IS NULL ORDER BY build_id LIMIT 1
) AS lease ON true
WHERE slave_id = ANY(:slave_ids);

-- name: claim
-- The best rows that slaves can build become leases, one for each slave. The slaves come in
-- groups of one size, one group for each target. Rows that another dispatcher is just claiming
-- are passed over. One head per size is read, so that small slaves never read past what only
-- large ones can take. A row keeps away from the slave that failed it for a minute: others get
-- their chance first.
WITH heads AS (
    SELECT target_id, version_id, row_id, most, row_number() OVER (
        PARTITION BY target_id ORDER BY lane, popularity DESC, released DESC, version_id
    ) AS place
    FROM unnest(
        CAST(:target_ids AS smallint[]), CAST(:sizes AS smallint[]),
        CAST(:first_lanes AS smallint[]), CAST(:last_lanes AS smallint[]),
        CAST(:counts AS integer[])
    ) AS alike (target_id, size, first_lane, last_lane, most)
    CROSS JOIN LATERAL generate_series(0, CAST(alike.size AS integer)) AS fitting (size)
    CROSS JOIN LATERAL (
        SELECT version_id, ctid AS row_id, lane, popularity, released FROM queue
        WHERE queue.target_id = alike.target_id AND queue.size = fitting.size AND ready
            AND lane BETWEEN first_lane AND last_lane
            AND (avoid IS NULL OR avoid <> ALL(CAST(:slave_ids AS integer[]))
                OR not_before < now() - interval '1 minute')
        ORDER BY lane, popularity DESC, released DESC, version_id
        LIMIT :most FOR UPDATE SKIP LOCKED
    ) AS head
), best AS (
    SELECT target_id, version_id, row_id, place FROM heads WHERE place <= most
), taken AS (
    DELETE FROM queue WHERE ctid = ANY(ARRAY(SELECT row_id FROM best))
    RETURNING version_id, target_id
), granted AS (
    INSERT INTO leases (token, version_id, target_id, slave_id, granted, expires, phase)
    SELECT token, version_id, target_id, slave_id, now(),
        now() + make_interval(secs => :seconds), 'granted'
    FROM taken JOIN best USING (version_id, target_id)
    JOIN unnest(
        CAST(:slave_ids AS integer[]), CAST(:tokens AS bytea[]),
        CAST(:targets_of AS smallint[]), CAST(:places AS bigint[])
    ) AS asker (slave_id, token, target_id, place) USING (target_id, place)
    RETURNING build_id, slave_id, token, version_id, target_id
), lease AS (
    SELECT * FROM granted UNION ALL
    SELECT build_id, slave_id, token, version_id, target_id FROM leases
    WHERE build_id = ANY(:held)
)
SELECT build_id, slave_id, token, name AS package, version, released, network,
    sdist_name, sdist_url, sdist_sha256, sdist_size, pypi_tag_set_id,
    COALESCE(costs.seconds, 0) AS seconds,
    ARRAY(SELECT kind FROM builds
        WHERE builds.version_id = lease.version_id AND builds.target_id = lease.target_id
            AND outcome = 'failure' AND builds.build_id > past) AS failures
FROM lease JOIN versions USING (version_id) JOIN packages USING (package_id)
LEFT JOIN costs USING (package_id, target_id);

-- name: extend
UPDATE leases SET expires = now() + make_interval(secs => :seconds), phase = said.phase,
    log_tail = said.log_tail
FROM unnest(
    CAST(:tokens AS bytea[]), CAST(:slave_ids AS integer[]), CAST(:runs AS bytea[]),
    CAST(:phases AS text[]), CAST(:log_tails AS text[])
) AS said (token, slave_id, run, phase, log_tail)
JOIN slaves ON slaves.slave_id = said.slave_id AND slaves.run = COALESCE(said.run, slaves.run)
WHERE leases.token = said.token AND leases.slave_id = said.slave_id
RETURNING leases.token;

-- name: revive
-- Slaves that were thought lost are back before anybody else took their builds.
WITH lost AS (
    DELETE FROM builds
    USING queue, unnest(CAST(:tokens AS bytea[]), CAST(:slave_ids AS integer[]),
        CAST(:runs AS bytea[])) AS said (token, slave_id, run), slaves
    WHERE builds.token = said.token AND builds.slave_id = said.slave_id AND kind = 'slave lost'
        AND slaves.slave_id = said.slave_id AND slaves.run = COALESCE(said.run, slaves.run)
        AND queue.version_id = builds.version_id AND queue.target_id = builds.target_id
    RETURNING build_id, builds.token, builds.version_id, builds.target_id, builds.slave_id, started
), taken AS (
    DELETE FROM queue USING lost
    WHERE queue.version_id = lost.version_id AND queue.target_id = lost.target_id
    RETURNING queue.version_id, queue.target_id
)
INSERT INTO leases (build_id, token, version_id, target_id, slave_id, granted, expires, phase)
OVERRIDING SYSTEM VALUE
SELECT build_id, token, version_id, target_id, slave_id, started,
    now() + make_interval(secs => :seconds), 'back'
FROM lost JOIN taken USING (version_id, target_id) RETURNING token;

-- name: on_record
SELECT token FROM builds WHERE token = ANY(:tokens) AND kind <> 'slave lost';

-- name: report
UPDATE leases SET report = said.report, phase = 'delivering',
    expires = now() + make_interval(secs => :seconds)
FROM jsonb_to_recordset(CAST(:reports AS jsonb)) AS said (build_id bigint, report jsonb)
WHERE leases.build_id = said.build_id;

-- name: expect_uploads
INSERT INTO uploads (build_id, name, size, sha256)
SELECT build_id, name, size, sha256 FROM jsonb_to_recordset(CAST(:files AS jsonb))
    AS said (build_id bigint, name text, size bigint, sha256 text)
ON CONFLICT (build_id, name) DO NOTHING;

-- name: reported
-- With what the slave and the package are blamed for so far; all of it locked, leases first.
SELECT build_id, token, version_id, leases.target_id, slave_id, packages.package_id, report, label,
    slaves.size, blame, quarantines, packages.failures,
    costs.seconds AS usual_seconds, costs.peak_memory AS usual_memory,
    (SELECT count(DISTINCT lost.slave_id) FROM builds AS lost
        WHERE lost.version_id = leases.version_id AND lost.kind = 'slave lost'
            AND lost.slave_id <> leases.slave_id AND lost.build_id > past) AS lost_before
FROM leases JOIN slaves USING (slave_id) JOIN versions USING (version_id)
JOIN packages USING (package_id)
LEFT JOIN costs ON costs.package_id = packages.package_id AND costs.target_id = leases.target_id
WHERE token = ANY(:tokens) ORDER BY token FOR NO KEY UPDATE OF leases, slaves;

-- name: expired
SELECT token FROM leases JOIN slaves USING (slave_id)
WHERE expires < now() ORDER BY expires LIMIT 1000
FOR NO KEY UPDATE OF leases, slaves SKIP LOCKED;

-- name: mend_expiries
-- A lease that ends later than any could comes from a clock that has stepped back since.
UPDATE leases SET expires = now() + make_interval(secs => :seconds)
WHERE expires > now() + make_interval(secs => :seconds + 60);

-- name: uploads
SELECT build_id, name, placed, refused FROM uploads WHERE build_id = ANY(:build_ids)
ORDER BY name;

-- name: put_builds
-- Leases end and become builds.
WITH ended AS (
    DELETE FROM leases WHERE build_id = ANY(:build_ids)
    RETURNING build_id, token, version_id, target_id, slave_id, granted
)
INSERT INTO builds (build_id, token, version_id, target_id, slave_id, started, ended, seconds,
    outcome, kind, cause, fix, needs, size, peak_memory, cpu_seconds, sandbox, network_used, phases,
    environment, log)
SELECT build_id, token, version_id, ended.target_id, slave_id, granted, now(),
    COALESCE(seconds, extract(epoch FROM now() - granted)),
    outcome, kind, cause, fix, needs, slaves.size, peak_memory, cpu_seconds, said.sandbox,
    network_used, phases, environment, log
FROM ended JOIN slaves USING (slave_id) JOIN jsonb_to_recordset(CAST(:builds AS jsonb)) AS said (
    build_id bigint, seconds real, outcome text, kind text, cause text, fix text, needs text,
    peak_memory bigint, cpu_seconds real, sandbox text, network_used boolean, phases jsonb,
    environment jsonb, log text
) USING (build_id);

-- name: put_files
INSERT INTO files (version_id, build_id, name, size, sha256, metadata_sha256, tag_set_id,
    requires_python, published)
SELECT builds.version_id, build_id, name, placed.size, sha256, metadata_sha256,
    (SELECT tag_set_id FROM tag_sets WHERE tags_digest(tags) = tags_digest(placed.tags)),
    requires_python, now()
FROM jsonb_to_recordset(CAST(:files AS jsonb)) AS placed (
    build_id bigint, name text, size bigint, sha256 text, metadata_sha256 text, tags text[],
    requires_python text
) JOIN builds USING (build_id)
ON CONFLICT (name) DO NOTHING;

-- name: put_summaries
UPDATE packages SET summary = placed.summary
FROM jsonb_to_recordset(CAST(:files AS jsonb)) AS placed (package_id integer, summary text)
WHERE packages.package_id = placed.package_id AND placed.summary <> packages.summary;

-- name: put_costs
INSERT INTO costs (package_id, target_id, seconds, peak_memory, size)
SELECT package_id, target_id, seconds, peak_memory, size
FROM jsonb_to_recordset(CAST(:costs AS jsonb)) AS took (
    package_id integer, target_id smallint, seconds real, peak_memory bigint, size smallint
) ORDER BY package_id, target_id
ON CONFLICT (package_id, target_id) DO UPDATE SET
    seconds = EXCLUDED.seconds, peak_memory = EXCLUDED.peak_memory, size = EXCLUDED.size;

-- name: blame_slaves
UPDATE slaves SET blame = said.blame, quarantines = said.quarantines,
    quarantined = CASE WHEN seconds IS NULL THEN quarantined
        ELSE now() + make_interval(secs => seconds) END
FROM jsonb_to_recordset(CAST(:slaves AS jsonb)) AS said (
    slave_id integer, blame smallint, quarantines smallint, seconds double precision
)
WHERE slaves.slave_id = said.slave_id;

-- name: blame_packages
UPDATE packages SET failures = said.failures
FROM jsonb_to_recordset(CAST(:packages AS jsonb)) AS said (package_id integer, failures integer)
WHERE packages.package_id = said.package_id;

-- name: end
-- Without a build: nothing happened under them that anybody should know of.
DELETE FROM leases WHERE build_id = ANY(:build_ids);
