-- The farm's state. Keys are integers: with eight million versions, text keys would cost
-- gigabytes. Times are timestamptz. Where a reason is wanted, '' means that there is none.

CREATE TABLE tag_sets (  -- a few thousand sets serve millions of versions and files
    tag_set_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tags text[] NOT NULL
);
-- An array of a thousand tags is too long for a B-tree, so its digest is indexed. PostgreSQL
-- cannot know that for text, unlike for other types, this cast always yields the same.
CREATE FUNCTION tags_digest(tags text[]) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT md5(tags::text) $$;
CREATE UNIQUE INDEX tag_sets_digest ON tag_sets (tags_digest(tags));

CREATE TABLE packages (
    package_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,  -- normalized (PEP 503)
    display_name text NOT NULL,
    summary text NOT NULL DEFAULT '',
    skip text NOT NULL DEFAULT '',
    policy text NOT NULL DEFAULT 'all' CHECK (policy IN ('all', 'missing')),
    popularity integer NOT NULL DEFAULT 0,
    serial bigint NOT NULL DEFAULT 0,
    added timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE package_names (  -- other spellings under which people look for a package
    name text PRIMARY KEY,
    package_id integer NOT NULL REFERENCES packages ON DELETE CASCADE,
    last_seen timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE versions (
    version_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    package_id integer NOT NULL REFERENCES packages ON DELETE CASCADE,
    version text NOT NULL,  -- as PyPI spells it
    released timestamptz,
    lane smallint,  -- 0 manual, 1 new release, 2 backlog; NULL: nobody asked for it
    asked timestamptz NOT NULL DEFAULT '-infinity',  -- for another chance: older failures are past
    skip text NOT NULL DEFAULT '',
    yanked text,  -- NULL: not yanked; else the reason, which may be ''
    requires_python text NOT NULL DEFAULT '',
    sdist_name text NOT NULL DEFAULT '',  -- '': there is no sdist
    sdist_url text NOT NULL DEFAULT '',
    sdist_sha256 text NOT NULL DEFAULT '',
    sdist_size bigint,
    pypi_tag_set_id integer REFERENCES tag_sets,  -- of all of PyPI's own wheels together
    UNIQUE (package_id, version)
);

CREATE TABLE targets (
    target_id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    label text NOT NULL,
    python text NOT NULL,
    rank integer NOT NULL,
    active boolean NOT NULL,
    settled boolean NOT NULL DEFAULT false,  -- whether the queue knows of its newest change
    tag_set_id integer NOT NULL REFERENCES tag_sets,
    added timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE skips (  -- of a package, or of one version of it, on one target
    package_id integer NOT NULL REFERENCES packages ON DELETE CASCADE,
    version_id integer REFERENCES versions ON DELETE CASCADE,
    target_id smallint NOT NULL REFERENCES targets ON DELETE CASCADE,
    reason text NOT NULL CHECK (reason <> '')
);
CREATE UNIQUE INDEX skips_key ON skips (package_id, COALESCE(version_id, 0), target_id);

CREATE TABLE slaves (
    slave_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    label text NOT NULL UNIQUE,
    target_id smallint NOT NULL REFERENCES targets,
    cores integer NOT NULL,
    memory bigint NOT NULL,
    disk bigint NOT NULL,
    sandbox text NOT NULL,
    memory_free bigint NOT NULL DEFAULT 0,
    disk_free bigint NOT NULL DEFAULT 0,
    load real NOT NULL DEFAULT 0,
    temperature real,
    present boolean NOT NULL DEFAULT true,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE queue (  -- what is waiting: kept equal to piwheels.rules.queue, row by row
    version_id integer NOT NULL REFERENCES versions ON DELETE CASCADE,
    target_id smallint NOT NULL REFERENCES targets ON DELETE CASCADE,
    lane smallint NOT NULL,
    popularity integer NOT NULL,
    released timestamptz NOT NULL,
    not_before timestamptz NOT NULL,  -- -infinity: at once
    attempts smallint NOT NULL,
    PRIMARY KEY (version_id, target_id)
);
CREATE INDEX queue_due ON queue (not_before) WHERE attempts > 0;  -- only retries wait for a time
CREATE INDEX queue_order ON queue (target_id, lane, popularity DESC, released DESC, version_id);

CREATE TABLE leases (
    build_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token bytea NOT NULL UNIQUE,
    version_id integer NOT NULL REFERENCES versions ON DELETE CASCADE,
    target_id smallint NOT NULL REFERENCES targets ON DELETE CASCADE,
    slave_id integer NOT NULL REFERENCES slaves,
    granted timestamptz NOT NULL,
    expires timestamptz NOT NULL,
    phase text NOT NULL,
    log_tail text NOT NULL DEFAULT '',
    report jsonb,  -- what BUILT said, kept until the files are here
    UNIQUE (version_id, target_id)
);
CREATE INDEX leases_slave ON leases (slave_id);
CREATE INDEX leases_expiry ON leases (expires);

CREATE TABLE uploads (  -- the files a lease is to deliver, and what became of each
    build_id bigint NOT NULL REFERENCES leases ON DELETE CASCADE,
    name text NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    placed jsonb,  -- NULL until it is verified and lies in the web tree
    refused text NOT NULL DEFAULT '',
    PRIMARY KEY (build_id, name)
);

CREATE TABLE builds (
    build_id bigint PRIMARY KEY,
    token bytea NOT NULL UNIQUE,  -- so that a repeated BUILT or SENT finds what it began
    version_id integer NOT NULL REFERENCES versions ON DELETE CASCADE,
    target_id smallint NOT NULL REFERENCES targets ON DELETE CASCADE,
    slave_id integer NOT NULL REFERENCES slaves,
    started timestamptz NOT NULL,
    ended timestamptz NOT NULL,
    seconds real NOT NULL,
    outcome text NOT NULL,
    kind text NOT NULL DEFAULT '',
    cause text NOT NULL DEFAULT '',
    fix text NOT NULL DEFAULT '',
    peak_memory bigint NOT NULL DEFAULT 0,
    cpu_seconds real NOT NULL DEFAULT 0,
    sandbox text NOT NULL DEFAULT '',
    network_used boolean NOT NULL DEFAULT false,
    phases jsonb NOT NULL DEFAULT '{}',
    environment jsonb NOT NULL DEFAULT '{}',
    log text NOT NULL DEFAULT ''  -- public path; '' where the slave was lost with its log
);
CREATE INDEX builds_version ON builds (version_id, target_id);
CREATE INDEX builds_ended ON builds (ended);

CREATE TABLE files (
    file_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version_id integer NOT NULL REFERENCES versions ON DELETE CASCADE,
    build_id bigint NOT NULL REFERENCES builds ON DELETE CASCADE,
    name text NOT NULL UNIQUE,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    metadata_sha256 text NOT NULL,
    tag_set_id integer NOT NULL REFERENCES tag_sets,
    requires_python text NOT NULL,
    published timestamptz NOT NULL
);
CREATE INDEX files_version ON files (version_id);
CREATE INDEX files_build ON files (build_id);

CREATE TABLE page_jobs (  -- packages whose pages must be written again; bursts coalesce
    package_id integer PRIMARY KEY REFERENCES packages ON DELETE CASCADE,
    reason text NOT NULL,
    requested timestamptz NOT NULL,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    attempts smallint NOT NULL DEFAULT 0
);

CREATE TABLE site_jobs (  -- the same for pages of no single package: simple, home
    page text PRIMARY KEY,
    requested timestamptz NOT NULL,
    not_before timestamptz NOT NULL  -- bursts coalesce
);

CREATE TABLE site (  -- how the pages that are written speak of the farm: one row
    is_it boolean PRIMARY KEY DEFAULT true CHECK (is_it),
    described jsonb NOT NULL
);

-- Listeners are woken; each also polls, so a lost wake-up costs seconds, never work.
CREATE FUNCTION wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_TABLE_NAME, '');
    RETURN NULL;
END $$;
CREATE TRIGGER wake AFTER INSERT OR UPDATE ON queue FOR EACH STATEMENT EXECUTE FUNCTION wake();
CREATE TRIGGER wake AFTER INSERT OR UPDATE ON targets FOR EACH STATEMENT EXECUTE FUNCTION wake();
CREATE TRIGGER wake AFTER INSERT OR UPDATE ON page_jobs FOR EACH STATEMENT EXECUTE FUNCTION wake();
CREATE TRIGGER wake AFTER INSERT OR UPDATE ON site_jobs FOR EACH STATEMENT EXECUTE FUNCTION wake();
