-- How versions of a package are chosen and built, as an operator wants it.

-- name: change
-- Nothing comes back if all was so already. keep: 0 stands for all versions.
UPDATE packages SET prereleases = news.prereleases, keep = news.keep, policy = news.policy,
    network = news.network
FROM (
    SELECT package_id AS id,
        COALESCE(NULLIF(:prereleases, ''), prereleases) AS prereleases,
        CASE WHEN CAST(:keep AS integer) IS NULL THEN keep
            ELSE NULLIF(CAST(:keep AS integer), 0) END AS keep,
        COALESCE(NULLIF(:policy, ''), policy) AS policy,
        COALESCE(CAST(:network AS boolean), network) AS network
    FROM packages WHERE package_id = :package_id
) AS news
WHERE package_id = news.id AND (packages.prereleases, packages.keep, packages.policy,
    packages.network) IS DISTINCT FROM (news.prereleases, news.keep, news.policy, news.network)
RETURNING package_id;

-- name: wanted
SELECT version_id FROM versions WHERE package_id = :package_id AND lane IS NOT NULL;
