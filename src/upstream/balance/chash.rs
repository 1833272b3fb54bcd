//! Consistent hashing as the `resty.chash` library of ingress-nginx does it: a ring of CRC-32 points, 160 for each
//! node of weight 1, where the points of a node are a chain (each hashes the node's name and the point before).

use std::net::SocketAddr;

/// Points of a node of weight 1.
const POINTS: usize = 160;

/// A ring over nodes of weight 1.
#[derive(Debug)]
pub struct Ring<N = SocketAddr> {
    points: Vec<(u32, u32)>,
    nodes: Vec<N>,
}

impl Ring<SocketAddr> {
    /// A ring of endpoints, which go by `address:port`.
    pub fn of(peers: &[SocketAddr]) -> Self {
        Self::new(peers.to_vec(), SocketAddr::to_string)
    }
}

impl<N: Copy> Ring<N> {
    /// A ring over `nodes`, each under its `name`.
    pub fn new(nodes: Vec<N>, name: impl Fn(&N) -> String) -> Self {
        let mut points = Vec::with_capacity(nodes.len().saturating_mul(POINTS));
        for (id, node) in (0..).zip(&nodes) {
            let mut base = crc32fast::Hasher::new();
            base.update(name(node).as_bytes());
            let mut point = 0_u32;
            for _ in 0..POINTS {
                let mut hasher = base.clone();
                hasher.update(&point.to_le_bytes());
                point = hasher.finalize();
                points.push((point, id));
            }
        }
        points.sort_unstable();
        Self { points, nodes }
    }

    /// The node at the first point that is not before the key's hash; past the last point the ring starts again.
    pub fn find(&self, key: &str) -> Option<N> {
        let hash = crc32fast::hash(key.as_bytes());
        let at = self.points.partition_point(|(point, _)| *point < hash);
        let (_, id) = self.points.get(at).or_else(|| self.points.first())?;
        self.nodes.get(*id as usize).copied()
    }
}
