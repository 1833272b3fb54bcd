//! `service-upstream`: the cluster address instead of endpoints.
