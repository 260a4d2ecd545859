-- Which packages have a simple page: the root page lists them without looking for files.
-- depends: 0002.queue

ALTER TABLE packages ADD COLUMN listed boolean NOT NULL DEFAULT false;
CREATE INDEX packages_listed ON packages (name) WHERE listed;
UPDATE packages SET listed = true WHERE EXISTS (
    SELECT FROM versions JOIN files USING (version_id)
    WHERE versions.package_id = packages.package_id
);
