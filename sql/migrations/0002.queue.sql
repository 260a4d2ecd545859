-- The queue at the size of PyPI: claims that cost the same however much waits, wake-ups that
-- say for whom, figures that need no scan; what slaves may be given; new chances.
-- depends: 0001.first

-- A chance begins with a build's number, not with a time: clocks may step back.
ALTER TABLE versions ADD COLUMN past bigint NOT NULL DEFAULT 0;  -- builds up to it do not count
UPDATE versions SET past = (SELECT COALESCE(max(build_id), 0) FROM builds WHERE ended <= asked)
WHERE asked > '-infinity';
ALTER TABLE versions DROP COLUMN asked;

ALTER TABLE packages
    ADD COLUMN prereleases text NOT NULL DEFAULT 'build'
        CHECK (prereleases IN ('build', 'last', 'never')),
    ADD COLUMN keep integer CHECK (keep > 0),  -- only the newest so many versions; NULL: all
    ADD COLUMN network boolean NOT NULL DEFAULT false,  -- whether its builds may use it
    ADD COLUMN news bigint NOT NULL DEFAULT 0,  -- builds up to it lacked what it offers now
    ADD COLUMN failures integer NOT NULL DEFAULT 0;  -- in a row that were its own fault

ALTER TABLE targets
    DROP COLUMN settled,
    ADD COLUMN image_since bigint NOT NULL DEFAULT 0,  -- builds up to it ran on older images
    ADD COLUMN size smallint NOT NULL DEFAULT 0;  -- of the largest slave it ever had

CREATE TABLE images (  -- what is installed on slaves, as digests: a new one is a new chance
    target_id smallint NOT NULL REFERENCES targets ON DELETE CASCADE,
    image text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, image)
);

ALTER TABLE slaves
    ADD COLUMN run bytea NOT NULL DEFAULT '',  -- of its process: another one has another
    ADD COLUMN past_runs bytea[] NOT NULL DEFAULT '{}',  -- of those before it, the newest first
    ADD COLUMN size smallint NOT NULL DEFAULT 0,  -- see piwheels.rules.resources
    ADD COLUMN blame smallint NOT NULL DEFAULT 0,  -- failures in a row that were its fault
    ADD COLUMN quarantines smallint NOT NULL DEFAULT 0,
    ADD COLUMN quarantined timestamptz NOT NULL DEFAULT '-infinity',  -- until then
    ADD COLUMN wish text NOT NULL DEFAULT 'work' CHECK (wish IN ('work', 'rest', 'leave')),
    ADD COLUMN unfit text NOT NULL DEFAULT '';  -- why it gets no work now

ALTER TABLE builds
    ADD COLUMN needs text NOT NULL DEFAULT '',  -- the package that would have helped
    ADD COLUMN size smallint NOT NULL DEFAULT 0;  -- of the slave
CREATE INDEX builds_remedy ON builds (target_id, kind)
    WHERE kind IN ('missing header or tool', 'out of memory');
CREATE INDEX builds_needs ON builds (needs) WHERE needs <> '';

CREATE TABLE costs (  -- what builds of a package take: see piwheels.rules.resources
    package_id integer NOT NULL REFERENCES packages ON DELETE CASCADE,
    target_id smallint NOT NULL REFERENCES targets ON DELETE CASCADE,
    seconds real NOT NULL,
    peak_memory bigint NOT NULL,
    size smallint NOT NULL,  -- of the smallest slave that has room for it
    PRIMARY KEY (package_id, target_id)
);

DROP INDEX leases_expiry;  -- a few thousand rows are scanned; without it a heartbeat is cheap
ALTER TABLE leases SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000);
ALTER TABLE slaves SET (fillfactor = 70);

ALTER TABLE queue
    ADD COLUMN size smallint NOT NULL DEFAULT 0,  -- of the smallest slave that can build it
    ADD COLUMN avoid integer,  -- the slave on which it last failed by the slave's fault
    ADD COLUMN ready boolean NOT NULL DEFAULT true;  -- whether not_before has come
UPDATE queue SET ready = not_before <= now();
DROP INDEX queue_due;
DROP INDEX queue_order;
CREATE INDEX queue_due ON queue (not_before) WHERE NOT ready;
CREATE INDEX queue_order ON queue (
    target_id, size, lane, popularity DESC, released DESC, version_id
) WHERE ready;
ALTER TABLE queue SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE rejudge (  -- versions, as ranges of ids, whose queue rows may be wrong by now
    first integer NOT NULL,
    last integer NOT NULL,
    PRIMARY KEY (first, last)
);

CREATE TABLE queue_counts (  -- what waits; the sum of these and of queue_changes
    target_id smallint NOT NULL,
    lane smallint NOT NULL,
    ready boolean NOT NULL,
    waiting bigint NOT NULL,
    PRIMARY KEY (target_id, lane, ready)
);
CREATE TABLE queue_changes (  -- only ever added to, so that no two writers meet; then folded
    target_id smallint NOT NULL,
    lane smallint NOT NULL,
    ready boolean NOT NULL,
    waiting bigint NOT NULL
);
INSERT INTO queue_counts SELECT target_id, lane, ready, count(*) FROM queue GROUP BY 1, 2, 3;

-- Whoever can build on those targets is woken, and nobody else.
DROP TRIGGER wake ON queue;
CREATE FUNCTION queue_grew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('queue', target_id::text)
    FROM (SELECT DISTINCT target_id FROM added WHERE ready) AS news;
    INSERT INTO queue_changes
    SELECT target_id, lane, ready, count(*) FROM added GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;
CREATE FUNCTION queue_shrank() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queue_changes
    SELECT target_id, lane, ready, -count(*) FROM removed GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;
CREATE TRIGGER grew AFTER INSERT ON queue REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION queue_grew();
CREATE TRIGGER shrank AFTER DELETE ON queue REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION queue_shrank();
CREATE TRIGGER grew_by_change AFTER UPDATE ON queue REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION queue_grew();
CREATE TRIGGER shrank_by_change AFTER UPDATE ON queue REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION queue_shrank();

CREATE TRIGGER wake AFTER UPDATE OF wish, quarantined ON slaves
    FOR EACH STATEMENT EXECUTE FUNCTION wake();
CREATE TRIGGER wake AFTER INSERT ON rejudge FOR EACH STATEMENT EXECUTE FUNCTION wake();
DROP TRIGGER wake ON targets;

-- All versions are judged again: an older farm may have been in the middle of it.
INSERT INTO rejudge VALUES (0, 2147483647);
