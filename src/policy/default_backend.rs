//! `default-backend`: the Service that serves when a location's own has no endpoints, and its error pages.
