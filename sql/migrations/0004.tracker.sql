-- Following PyPI: which packages, what their projects are by now, and what must be asked of PyPI.
-- depends: 0003.listed

ALTER TABLE packages
    ADD COLUMN status text NOT NULL DEFAULT 'active'  -- of the project on PyPI
        CHECK (status IN ('active', 'archived', 'deprecated', 'quarantined', 'deleted')),
    ADD COLUMN status_reason text NOT NULL DEFAULT '',
    ADD COLUMN follow text NOT NULL DEFAULT ''  -- why its new versions are wanted; '': they are not
        CHECK (follow IN ('', 'listed', 'needed', 'popular', 'all')),
    ADD COLUMN followed timestamptz,  -- since when; versions released before are backlog
    ADD COLUMN last_read timestamptz,  -- its page; NULL: not since it is followed
    ADD COLUMN next_read timestamptz NOT NULL DEFAULT '-infinity',  -- its page, come what may
    ADD COLUMN changed timestamptz NOT NULL DEFAULT now();  -- when its page last had news
CREATE INDEX packages_next_read ON packages (next_read);

CREATE TABLE project_jobs (  -- packages whose pages on PyPI must be read; bursts coalesce
    name text PRIMARY KEY,  -- normalized; the package need not be known yet
    serial bigint,  -- that the page must have at least; NULL: any will do
    reason text NOT NULL,
    popularity integer NOT NULL DEFAULT 0,
    requested timestamptz NOT NULL DEFAULT now(),
    not_before timestamptz NOT NULL DEFAULT '-infinity',  -- also the end of who is at it
    attempts smallint NOT NULL DEFAULT 0,
    missing timestamptz  -- when PyPI first said that there is no such project
);
CREATE INDEX project_jobs_order ON project_jobs (popularity DESC, requested);
CREATE INDEX project_jobs_serial ON project_jobs (serial) WHERE serial IS NOT NULL;
ALTER TABLE project_jobs SET (autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000);

CREATE TABLE tracking (  -- how far PyPI was followed: one row
    is_it boolean PRIMARY KEY DEFAULT true CHECK (is_it),
    began timestamptz NOT NULL DEFAULT now(),  -- to follow all; what is older is backlog
    serial bigint NOT NULL DEFAULT 0,  -- all that the journal named up to it became a job
    has_journal boolean NOT NULL DEFAULT true,
    comparing timestamptz NOT NULL DEFAULT '-infinity',  -- until then somebody compares
    compared timestamptz NOT NULL DEFAULT '-infinity',  -- when PyPI's list was last compared
    counted timestamptz NOT NULL DEFAULT '-infinity',  -- when popularity was last read
    unknown integer NOT NULL DEFAULT 0,  -- projects that the list had and we did not,
    stale integer NOT NULL DEFAULT 0,  -- that had changed without the journal telling us,
    absent integer NOT NULL DEFAULT 0  -- and that we had and the list did not
);
INSERT INTO tracking DEFAULT VALUES;

CREATE UNLOGGED TABLE listing (  -- names in PyPI's list while it is compared
    name text PRIMARY KEY
);

CREATE TABLE doomed_files (  -- of deleted projects: no page names them, they leave the disk when due
    name text PRIMARY KEY,
    package text NOT NULL,
    due timestamptz NOT NULL
);
CREATE INDEX doomed_files_due ON doomed_files (due);
