//! An API server that misbehaves by chance, the same chance every time, and then calms down: what is known in the end is
//! what the server has. Faults: dropped connections, 429 and 5xx, 410 by status and in the stream, lists cut in half, torn
//! JSON, events without an object or with one of another type, events twice, watches that end at once.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::control::Objects;
use crate::controller::fake::{Call, Stream};

/// What the server has, and its log.
struct Server {
    dice: u64,
    version: u32,
    objects: BTreeMap<String, u32>,
    log: Vec<(u32, &'static str, String)>,
}

impl Server {
    /// A number below `end`.
    fn roll(&mut self, end: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % end
    }

    fn change(&mut self) {
        self.version += 1;
        let name = format!("m{}", self.roll(12));
        let kind = match (self.objects.contains_key(&name), self.roll(3)) {
            (true, 0) => "DELETED",
            (true, _) => "MODIFIED",
            (false, _) => "ADDED",
        };
        if kind == "DELETED" {
            self.objects.remove(&name);
        } else {
            self.objects.insert(name.clone(), self.version);
        }
        self.log.push((self.version, kind, name));
    }

    /// Answers a call as it should be; what goes on is given back.
    async fn serve(&mut self, call: Call) -> Option<Stream> {
        if call.target.contains("limit=") {
            let items: Vec<Json> =
                self.objects.iter().map(|(name, version)| object(name, *version)).collect();
            let list = json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items});
            call.reply(200, &list).await;
            return None;
        }
        let from = place(&call.target);
        let mut stream = call.stream().await;
        match from {
            None => {
                for (name, version) in &self.objects {
                    stream.try_event("ADDED", object(name, *version)).await;
                }
                stream.try_event("BOOKMARK", mark(self.version, true)).await;
            }
            Some(from) => self.follow(&mut stream, from).await,
        }
        Some(stream)
    }

    async fn follow(&mut self, stream: &mut Stream, from: u32) {
        let news: Vec<_> = self.log.iter().filter(|(version, ..)| *version > from).cloned().collect();
        for (version, kind, name) in news {
            stream.try_event(kind, object(&name, version)).await;
            if self.roll(4) == 0 {
                stream.try_event(kind, object(&name, version)).await;
            }
        }
    }

    /// Answers a call badly, or well and then no more.
    async fn misbehave(&mut self, call: Call) {
        let listing = place(&call.target).is_none();
        match self.roll(12) {
            0 => drop(call),
            1 => call.refuse(500, "InternalError").await,
            2 => call.refuse(429, "TooManyRequests").await,
            3 => call.refuse(503, "ServiceUnavailable").await,
            4 if !listing => call.refuse(410, "Expired").await,
            5 if listing => call.refuse(422, "Invalid").await,
            6 => call.reply(200, &json!("no object at all")).await,
            7 => {
                let mut stream = call.stream().await;
                // In a list that never ends it counts for nothing; in a watch it would be a lie that nothing mends.
                if listing {
                    stream.try_event("ADDED", object("ghost", 1)).await;
                }
                stream.raw(b"{\"type\": \"ADDED\", \"obj").await;
            }
            8 => {
                let mut stream = call.stream().await;
                stream.try_event("ADDED", json!("text")).await;
                stream.try_event("MODIFIED", json!({"metadata": 7})).await;
                stream.raw(b"this is no JSON\n").await;
            }
            9 => {
                let mut stream = call.stream().await;
                let gone = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
                stream.try_event("ERROR", gone).await;
            }
            10 => {
                if let Some(stream) = self.serve(call).await {
                    stream.end().await;
                }
            }
            _ => drop(self.serve(call).await),
        }
    }
}

/// `resourceVersion` of a watch.
fn place(target: &str) -> Option<u32> {
    if target.contains("sendInitialEvents") || target.contains("limit=") {
        return None;
    }
    target.split(['?', '&']).find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok())
}

fn object(name: &str, version: u32) -> Json {
    json!({"metadata": {"name": name, "namespace": "team", "resourceVersion": version.to_string()},
        "data": {"k": version.to_string()}})
}

fn known(objects: &Objects) -> BTreeMap<String, u32> {
    let maps = objects.world().config_maps.values();
    maps.map(|map| (map.meta.key.name.to_string(), map.data["k"].parse().unwrap())).collect()
}

async fn survive(seed: u64) {
    let mut scene = scene(Kind::ConfigMap).await;
    let mut server = Server { dice: seed, version: 10, objects: BTreeMap::new(), log: Vec::new() };
    let mut objects = Objects::new(1);
    // Waits between failures would make the test long.
    let link = scene.link.clone();
    let impatience = tokio::spawn(async move {
        loop {
            link.announce_return();
            sleep(Duration::from_millis(2)).await;
        }
    });
    for _ in 0..40 {
        for _ in 0..server.roll(3) {
            server.change();
        }
        let call = scene.api.call().await;
        server.misbehave(call).await;
        while let Ok(change) = scene.changes.try_recv() {
            objects.take(change);
        }
    }
    impatience.abort();
    scene.link.announce_return();
    let mut open = Vec::new();
    let end = Instant::now() + PATIENCE;
    while known(&objects) != server.objects {
        assert!(Instant::now() < end, "seed {seed}: {:?} is not {:?}", known(&objects), server.objects);
        tokio::select! {
            call = scene.api.call() => open.extend(server.serve(call).await),
            change = scene.changes.recv() => drop(objects.take(change.expect("it runs"))),
            // A request that was left hanging after the last word would be given up much later than this test ends.
            () = sleep(Duration::from_millis(200)) => scene.link.announce_return(),
        }
    }
}

#[tokio::test]
async fn after_any_faults_what_is_known_is_what_the_server_has() {
    for seed in 1..=12 {
        survive(seed * 0x9e37_79b9).await;
    }
}
