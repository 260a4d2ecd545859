-- Made data of any size with the proportions of PyPI. One transaction runs the statements in
-- this order; the tables are emptied in it first, so that PostgreSQL need not log what it loads.

-- name: empty
TRUNCATE tag_sets, packages, package_names, versions, targets, skips, slaves, queue, leases,
    uploads, builds, files, page_jobs, site_jobs, site, images, costs, rejudge, queue_counts,
    queue_changes RESTART IDENTITY CASCADE;

-- name: pure_tag_sets
INSERT INTO tag_sets (tags) VALUES
    ('{py3-none-any}'), ('{py2-none-any,py3-none-any}'), ('{py2.py3-none-any}');

-- name: native_tag_sets
-- A few thousand sets serve all of PyPI: some Pythons, each on some platforms. One in thirty
-- has wheels for 32-bit ARM, as targets have.
INSERT INTO tag_sets (tags)
SELECT array_agg(DISTINCT format('cp3%s-cp3%s-%s', minor, minor, platform) ORDER BY
    format('cp3%s-cp3%s-%s', minor, minor, platform))
FROM (
    SELECT number, 6 + floor(random() * 7)::int AS oldest, floor(random() * 5)::int AS span,
        0.2 + 0.8 * random() AS share
    FROM generate_series(1, 3000) AS number
) AS sets
CROSS JOIN LATERAL generate_series(oldest, oldest + span) AS minor
CROSS JOIN LATERAL (
    SELECT platform FROM unnest(CAST(:platforms AS text[])) AS platform
    WHERE random() < share
    UNION ALL SELECT 'manylinux_2_31_armv7l' WHERE number % 30 = 0
    UNION ALL SELECT 'win_amd64'
) AS platforms
GROUP BY number
ON CONFLICT DO NOTHING;

-- name: targets
WITH offers AS (
    SELECT * FROM jsonb_to_recordset(CAST(:targets AS jsonb))
        AS offer (name text, label text, python text, rank integer, tags text[])
), sets AS (
    INSERT INTO tag_sets (tags) SELECT tags FROM offers RETURNING tag_set_id, tags
)
INSERT INTO targets (name, label, python, rank, active, tag_set_id, size)
SELECT name, label, python, rank, true, tag_set_id, 4
FROM offers JOIN sets USING (tags) ORDER BY rank;

-- name: native_sets_of_targets
-- The tags of a wheel that was built on a target and is native.
INSERT INTO tag_sets (tags) SELECT ARRAY[replace(name, '-', '-' || split_part(name, '-', 1) || '-')]
FROM targets ORDER BY target_id;

-- name: slaves
INSERT INTO slaves (label, target_id, cores, memory, disk, sandbox, memory_free, disk_free, size)
SELECT format('%s-%s', name, number), target_id, 4, 4::bigint << 30, 64::bigint << 30, 'L2',
    3::bigint << 30, 50::bigint << 30, 4
FROM targets CROSS JOIN generate_series(1, 8) AS number;

-- name: packages
-- Downloads follow a power law; a rank is drawn, so that the number of a package says nothing.
INSERT INTO packages (package_id, name, display_name, summary, skip, policy, popularity, serial,
    prereleases, keep)
OVERRIDING SYSTEM VALUE
SELECT number, format('package-%s', number), format('Package_%s', number),
    format('What package %s is for, in one line of the usual length', number),
    CASE WHEN random() < 0.002 THEN 'it builds nowhere' ELSE '' END,
    CASE WHEN random() < :listed THEN 'all' ELSE 'missing' END,
    floor(2e9 * power(place, -1.05))::int, 10000000 + number,
    CASE WHEN random() < 0.01 THEN 'last' ELSE 'build' END,
    CASE WHEN random() < 0.002 THEN 10 END
FROM (
    SELECT number, row_number() OVER (ORDER BY random()) AS place
    FROM generate_series(1, CAST(:packages AS integer)) AS number
) AS ranked ORDER BY number;

-- name: version_counts
-- Few packages have hundreds of versions, half have at most four: a log-normal distribution,
-- a little in favour of what is popular. Rounded so that the sum is exact.
CREATE TEMPORARY TABLE version_counts ON COMMIT DROP AS
SELECT package_id, began,
    (floor(share_with * :versions) - floor((share_with - share) * :versions))::int AS versions
FROM (
    SELECT package_id, began, weight / sum(weight) OVER () AS share,
        sum(weight) OVER (ORDER BY package_id) / sum(weight) OVER () AS share_with
    FROM (
        SELECT package_id,
            timestamptz '2008-01-01' + interval '6600 days' * sqrt(random()) AS began,
            power(popularity, 0.12)
                * exp(1.35 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) AS weight
        FROM packages
    ) AS weighed
) AS shares;

-- name: versions
INSERT INTO versions (package_id, version, released, lane, skip, yanked, requires_python,
    sdist_name, sdist_url, sdist_sha256, sdist_size, pypi_tag_set_id)
SELECT package_id, version, released, lane, skip, yanked, requires_python,
    CASE WHEN has_sdist THEN file ELSE '' END,
    CASE WHEN has_sdist THEN format('https://files.example/packages/%s/%s/%s/%s',
        left(digest, 2), substr(digest, 3, 2), digest || right(digest, 28), file) ELSE '' END,
    CASE WHEN has_sdist THEN digest || reverse(digest) ELSE '' END,
    CASE WHEN has_sdist THEN (3000 * exp(6 * random()))::bigint END,
    CASE WHEN wheels < :on_pypi * :pure THEN 1 + floor(3 * power(random(), 2))::int
        WHEN wheels < :on_pypi THEN native[1 + floor(cardinality(native) * power(random(), 3))] END
FROM (
    SELECT *, format('package_%s-%s.tar.gz', package_id, version) AS file,
        md5(package_id || version) AS digest
    FROM (
        SELECT package_id,
            format('%s.%s', number / 20, number % 20)
                || CASE WHEN random() < 0.05 THEN 'rc1' ELSE '' END AS version,
            began + (timestamptz '2026-11-01' - began) * number / versions AS released,
            CASE WHEN random() < 0.01 THEN NULL WHEN random() < 0.005 THEN 1 ELSE 2 END AS lane,
            CASE WHEN random() < 0.001 THEN 'it never ends' ELSE '' END AS skip,
            CASE WHEN random() < 0.01 THEN 'broken' END AS yanked,
            CASE WHEN random() < 0.45 THEN '' ELSE (CAST(:pythons AS text[]))[
                1 + floor(cardinality(CAST(:pythons AS text[])) * power(random(), 2))] END
                AS requires_python,
            random() < :sdists AS has_sdist, random() AS wheels
        FROM version_counts CROSS JOIN generate_series(1, versions) AS number
    ) AS drawn
) AS named
CROSS JOIN (
    SELECT array_agg(tag_set_id) AS native FROM tag_sets
    WHERE EXISTS (SELECT FROM unnest(tags) AS tag WHERE tag LIKE '%-win_amd64')
) AS sets;

-- name: fates
-- What became of those that the rule would let wait, if there were no builds. A turn is drawn,
-- since builds do not happen in the order in which versions were released.
CREATE TEMPORARY TABLE fates ON COMMIT DROP AS
SELECT version_id, random() AS turn,
    CASE WHEN is_native AND lot < 0.85 THEN 'native wheels'
        WHEN NOT is_native AND lot < 0.72 THEN 'pure wheel'
        WHEN NOT is_native AND lot < 0.80 THEN 'native wheels'
        WHEN lot < 0.95 THEN 'failed' ELSE 'failed once' END AS fate,
    (CAST(:kinds AS text[]))[1 + floor(cardinality(CAST(:kinds AS text[])) * random())] AS kind
FROM (
    SELECT version_id, pypi_tag_set_id IS NOT NULL AS is_native, random() AS lot
    FROM versions JOIN packages USING (package_id)
    WHERE sdist_name <> '' AND lane IS NOT NULL AND versions.skip = '' AND packages.skip = ''
        AND yanked IS NULL AND (pypi_tag_set_id IS NULL OR pypi_tag_set_id > 3)
        AND random() < :built
) AS buildable;

-- name: builds
INSERT INTO builds (build_id, token, version_id, target_id, slave_id, started, ended, seconds,
    outcome, kind, cause, fix, needs, peak_memory, cpu_seconds, sandbox, phases, environment, log,
    size)
SELECT build_id, uuid_send(gen_random_uuid()), version_id, target_id,
    1 + (target_id - 1) * 8 + build_id % 8,
    timestamptz '2025-01-01' + build_id * interval '8 seconds',
    timestamptz '2025-01-01' + build_id * interval '8 seconds' + seconds * interval '1 second',
    seconds, CASE kind WHEN '' THEN 'success' ELSE 'failure' END, kind,
    CASE kind WHEN '' THEN '' ELSE 'error: what the log says of it, in a line of usual length' END,
    CASE kind WHEN 'missing header or tool' THEN 'install libsomething-dev' ELSE '' END,
    CASE kind WHEN 'build dependency unavailable'
        THEN format('package-%s', 1 + floor(:packages * power(random(), 4))::int) ELSE '' END,
    (60e6 * exp(2 * random()))::bigint, seconds * 1.2, 'L2',
    '{"building": 21.4, "fetching": 0.4, "inspecting": 0.1, "preparing": 2.3}',
    '{"setuptools": "80.9.0", "wheel": "0.45.1", "packaging": "25.0"}',
    format('logs/0000/%s/%s.txt.gz', build_id / 10000, build_id % 10000), 3
FROM (
    SELECT row_number() OVER (ORDER BY turn, target_id) AS build_id, version_id, target_id,
        CASE WHEN fate LIKE 'failed%' THEN kind ELSE '' END AS kind,
        (2 * exp(4 * random()))::real AS seconds
    FROM fates JOIN targets ON target_id = 1 OR fate IN ('native wheels', 'failed')
) AS made ORDER BY build_id;

-- name: build_numbers
-- Leases draw the numbers of builds.
SELECT setval(pg_get_serial_sequence('leases', 'build_id'), COALESCE(max(build_id), 0) + 1, false)
FROM builds;

-- name: package_numbers
SELECT setval(pg_get_serial_sequence('packages', 'package_id'), max(package_id)) FROM packages;

-- name: files
INSERT INTO files (version_id, build_id, name, size, sha256, metadata_sha256, tag_set_id,
    requires_python, published)
SELECT version_id, build_id, format('package_%s-%s-%s.whl', package_id, version,
        CASE fate WHEN 'pure wheel' THEN 'py3-none-any' ELSE native.tags[1] END),
    (5000 * exp(6 * random()))::bigint, digest || reverse(digest), reverse(digest) || digest,
    CASE fate WHEN 'pure wheel' THEN 1 ELSE native.tag_set_id END, requires_python, ended
FROM builds JOIN fates USING (version_id) JOIN versions USING (version_id)
JOIN targets USING (target_id)
JOIN tag_sets AS native ON native.tags
    = ARRAY[replace(targets.name, '-', '-' || split_part(targets.name, '-', 1) || '-')]
CROSS JOIN LATERAL (SELECT md5(build_id::text) AS digest) AS digests
WHERE outcome = 'success' ORDER BY build_id;

-- name: costs
INSERT INTO costs (package_id, target_id, seconds, peak_memory, size)
SELECT package_id, target_id, avg(seconds), max(peak_memory),
    CASE WHEN max(peak_memory) > 400e6 THEN 1 ELSE 0 END
FROM builds JOIN versions USING (version_id) WHERE outcome = 'success' GROUP BY 1, 2;

-- name: never_tried
-- What waits of the versions that were never built: for these the rule comes to little, so that
-- it can be said in one statement. Python says which spellings admit which targets.
WITH cover AS MATERIALIZED (
    SELECT wheels.tag_set_id, target_id AS covered FROM tag_sets AS wheels
    JOIN (targets JOIN tag_sets AS supported USING (tag_set_id)) ON wheels.tags && supported.tags
)
INSERT INTO queue (version_id, target_id, lane, popularity, released, not_before, attempts, size)
SELECT version_id, target_id, lane, popularity, released, 'epoch', 0, size
FROM (
    SELECT version_id, target_id, popularity, released, COALESCE(costs.size, 0) AS size,
        CASE WHEN prereleases = 'last' AND version LIKE '%rc1' THEN 3 ELSE lane END AS lane,
        COALESCE(pypi_tag_set_id > 3, false)
            OR row_number() OVER (PARTITION BY version_id ORDER BY rank) = 1 AS waits
    FROM versions JOIN packages USING (package_id)
    JOIN jsonb_to_recordset(CAST(:admitted AS jsonb)) AS admitted (requires_python text, rank int)
        USING (requires_python)
    JOIN targets USING (rank)
    LEFT JOIN costs USING (package_id, target_id)
    LEFT JOIN cover ON policy = 'missing'
        AND cover.tag_set_id = pypi_tag_set_id AND covered = target_id
    WHERE lane IS NOT NULL AND versions.skip = '' AND packages.skip = '' AND yanked IS NULL
        AND sdist_name <> '' AND keep IS NULL AND covered IS NULL
        AND NOT EXISTS (SELECT FROM builds WHERE builds.version_id = versions.version_id)
) AS eligible
WHERE waits ORDER BY version_id;

-- name: counts
INSERT INTO queue_counts SELECT target_id, lane, ready, count(*) FROM queue GROUP BY 1, 2, 3;

-- name: to_be_judged
-- The others are left to the rule itself.
INSERT INTO rejudge
SELECT version_id, version_id FROM builds WHERE outcome = 'failure'
UNION SELECT version_id, version_id FROM versions JOIN packages USING (package_id)
    WHERE keep IS NOT NULL;
