//! The table that is published: made of the parts that are known now, or the last one, where nothing changed.

use std::sync::Arc;

use super::{Compiler, Settings, Work};
use crate::compile::object::CATCH_ALL;
use crate::compile::stream;
use crate::compile::stream::Owner;
use crate::diagnostic::Diagnostic;
use crate::model::{Kind, ObjectRef};
use crate::route::stream::{StreamService, StreamTable};
use crate::route::{Server, Table};

/// How many hosts have what a connection has to be prepared for.
#[derive(Debug, Default)]
pub(super) struct Traits {
    client_certificates: usize,
    own_handshakes: usize,
    passthrough: usize,
}

impl Traits {
    /// Another server stands for a host, or none.
    pub(super) fn exchange(&mut self, before: Option<&Server>, now: Option<&Server>) {
        let step = |count: &mut usize, has: &dyn Fn(&Server) -> bool| {
            *count = (*count + usize::from(now.is_some_and(has)))
                .saturating_sub(usize::from(before.is_some_and(has)));
        };
        step(&mut self.client_certificates, &|server| server.client_certificates.is_some());
        step(&mut self.own_handshakes, &|server| !server.handshakes.is_default());
        step(&mut self.passthrough, &|server| server.passthrough.is_some());
    }
}

impl Compiler {
    /// The stream services that lead somewhere: one without endpoints keeps its port, one whose Service is not there
    /// or may not be used has none (`security.md` G-1).
    fn streams(&self, settings: &Settings) -> StreamTable {
        let services = settings.streams.iter().filter_map(|(entry, slot)| {
            // Only what the Service itself decides: endpoints come and go without a new table.
            let fault = self.endpoints.problems.get(slot).map(|problem| problem.code);
            if matches!(fault, Some("ServiceNotFound" | "PortNotFound" | "ExternalNameRefused")) {
                return None;
            }
            let backend = Arc::clone(self.slots.backend(*slot)?);
            let service = StreamService { backend, snippet: None, accept: entry.accept, send: entry.send };
            Some(((entry.transport, entry.port), Arc::new(service)))
        });
        StreamTable::new(services.chain(self.stream_snippets(settings).0))
    }

    /// The ports that snippets open, the ConfigMap's first, then those of Ingresses from the oldest on.
    pub(super) fn stream_snippets(&self, settings: &Settings) -> (stream::Ports, Vec<Diagnostic>) {
        let globals = &settings.globals.snippets.streams;
        if globals.is_empty() && self.streamers.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let of_all = settings.config_map.as_ref().map(|(key, origin)| Owner {
            object: ObjectRef { kind: Kind::ConfigMap, key: key.clone() },
            field: "data[stream-snippet]".into(),
            origin,
            rules: globals,
        });
        let of_ingresses = self.streamers.iter().map(|entry| Owner {
            object: ObjectRef { kind: Kind::Ingress, key: entry.contribution.key.clone() },
            field: format!("metadata.annotations[{}/stream-snippet]", settings.options.annotations_prefix),
            origin: &entry.contribution.origin,
            rules: &entry.contribution.policies.server.streams,
        });
        let taken = settings.streams.iter().map(|(entry, _)| (entry.transport, entry.port));
        stream::snippets(of_all.into_iter().chain(of_ingresses), taken, &settings.options)
    }

    pub(super) fn table(&mut self, work: &Work) -> Arc<Table> {
        let last = self.table.take();
        let settings = self.settings.as_ref().expect("compile follows the settings first");
        let backends = match &last {
            Some(last) if !self.slots.take_changed() => Arc::clone(&last.backends),
            _ => self.slots.backends(),
        };
        let default_backend = settings.default_slot.and_then(|slot| self.slots.backend(slot));
        let streams = self.streams(settings);
        let catch_all = self.hosts.get(CATCH_ALL).and_then(|host| host.server.clone());
        let catch_all = catch_all.expect("the catch-all host always has a plan, and so a server");
        let unchanged = |last: &Table| {
            work.servers.is_empty()
                && work.backends.is_empty()
                && !work.names
                && Arc::ptr_eq(&last.tls, &self.tls)
                && Arc::ptr_eq(&last.catch_all, &catch_all)
                && *last.streams == streams
        };
        let table = match last {
            Some(last) if unchanged(&last) => last,
            _ => Arc::new(Table {
                hosts: self.index.clone(),
                catch_all,
                tls: Arc::clone(&self.tls),
                backends,
                globals: Arc::clone(&settings.globals),
                default_backend: default_backend.cloned(),
                https_port: settings.options.https_port,
                client_certificates: self.traits.client_certificates > 0,
                own_handshakes: self.traits.own_handshakes > 0,
                passthrough: self.traits.passthrough > 0,
                streams: Arc::new(streams),
            }),
        };
        self.table = Some(Arc::clone(&table));
        table
    }
}
