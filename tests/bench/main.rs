//! netd beside what else carries packets to containers, in one run.

mod ground;
mod live;

use ground::{Contender, Ground, Terms};

fn main() {
    netd_tests::need_root();
    let grounds: Vec<(Ground, live::Pair)> =
        [Contender::Wire, Contender::Routed, Contender::Iptables, Contender::Nft, Contender::Netd]
            .into_iter()
            .map(|contender| {
                let ground = Ground::new(contender, Terms { napi: true, ..Terms::default() });
                let pair = live::Pair::new(&ground);
                (ground, pair)
            })
            .collect();
    for flows in [1, 10_000] {
        for (ground, pair) in &grounds {
            let (inward, outward) = (live::inward(ground, flows, 0), live::outward(ground, flows, 0));
            for _ in 0..2 {
                inward.send(flows.max(64) * 2);
                outward.send(flows.max(64) * 2);
                std::thread::sleep(std::time::Duration::from_millis(1200));
            }
            let _ = pair;
        }
        for _round in 0..3 {
            for (ground, pair) in &grounds {
                let inward = live::inward(ground, flows, 0).rate(&pair.inward_sink, 1_000_000);
                let outward = live::outward(ground, flows, 0).rate(&pair.outward_sink, 1_000_000);
                println!(
                    "{flows:6} {:9} in {:7.0} kpps {:5.0} ns ({:.3}, {} wrong)   out {:7.0} kpps {:5.0} ns ({:.3}, {} wrong)",
                    ground.contender.name(),
                    inward.per_second / 1e3, 1e9 / inward.per_second, inward.share, inward.wrong,
                    outward.per_second / 1e3, 1e9 / outward.per_second, outward.share, outward.wrong,
                );
            }
        }
    }
}
