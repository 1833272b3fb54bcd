//! Which database, and which place in it, fills which variable: the list of ingress-nginx's own configuration.

use maxminddb::PathElement::{self, Index, Key};

/// One place where a value may stand.
pub(super) struct Source {
    /// Part of the type of the database.
    pub(super) kind: &'static str,
    /// Way to the value.
    pub(super) path: &'static [PathElement<'static>],
}

/// Name without `geoip2_`, kind of database, way.
type Row = (&'static str, &'static str, &'static [PathElement<'static>]);

const ROWS: &[Row] = &[
    ("asn", "ASN", &[Key("autonomous_system_number")]),
    ("asn", "ISP", &[Key("autonomous_system_number")]),
    ("city", "City", &[Key("city"), Key("names"), Key("en")]),
    ("city_continent_code", "City", &[Key("continent"), Key("code")]),
    ("city_continent_name", "City", &[Key("continent"), Key("names"), Key("en")]),
    ("city_country_code", "City", &[Key("country"), Key("iso_code")]),
    ("city_country_name", "City", &[Key("country"), Key("names"), Key("en")]),
    ("connection_type", "Connection-Type", &[Key("connection_type")]),
    ("continent_code", "Country", &[Key("continent"), Key("code")]),
    // ingress-nginx fills these from Country databases only; one of cities knows them, too.
    ("continent_code", "City", &[Key("continent"), Key("code")]),
    ("continent_name", "Country", &[Key("continent"), Key("names"), Key("en")]),
    ("continent_name", "City", &[Key("continent"), Key("names"), Key("en")]),
    ("country_code", "Country", &[Key("country"), Key("iso_code")]),
    ("country_code", "City", &[Key("country"), Key("iso_code")]),
    ("country_name", "Country", &[Key("country"), Key("names"), Key("en")]),
    ("country_name", "City", &[Key("country"), Key("names"), Key("en")]),
    ("dma_code", "City", &[Key("location"), Key("metro_code")]),
    ("is_anon", "Anonymous-IP", &[Key("is_anonymous")]),
    ("is_anonymous", "Anonymous-IP", &[Key("is_anonymous")]),
    ("is_anonymous_vpn", "Anonymous-IP", &[Key("is_anonymous_vpn")]),
    ("is_hosting_provider", "Anonymous-IP", &[Key("is_hosting_provider")]),
    ("is_public_proxy", "Anonymous-IP", &[Key("is_public_proxy")]),
    ("is_tor_exit_node", "Anonymous-IP", &[Key("is_tor_exit_node")]),
    ("isp", "ISP", &[Key("isp")]),
    ("isp_org", "ISP", &[Key("organization")]),
    ("latitude", "City", &[Key("location"), Key("latitude")]),
    ("longitude", "City", &[Key("location"), Key("longitude")]),
    ("org", "ASN", &[Key("autonomous_system_organization")]),
    ("postal_code", "City", &[Key("postal"), Key("code")]),
    ("region_code", "City", &[Key("subdivisions"), Index(0), Key("iso_code")]),
    ("region_name", "City", &[Key("subdivisions"), Index(0), Key("names"), Key("en")]),
    ("subregion_code", "City", &[Key("subdivisions"), Index(1), Key("iso_code")]),
    ("subregion_name", "City", &[Key("subdivisions"), Index(1), Key("names"), Key("en")]),
    ("time_zone", "City", &[Key("location"), Key("time_zone")]),
];

/// Where the value of `$geoip2_<name>` may stand, best first.
pub(super) fn sources(name: &str) -> impl Iterator<Item = Source> {
    ROWS.iter().filter(move |row| row.0 == name).map(|(_, kind, path)| Source { kind, path })
}
