//! tmp
#![allow(clippy::print_stdout)]
fn main() {
    let a: Vec<u64> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let verbose = a.len() == 1;
    let (from, n) = (a[0], if verbose { 1 } else { a[1] });
    let mut bad = 0;
    let start = std::time::Instant::now();
    let mut events = 0u64; let mut sim = 0u64;
    for seed in from..from + n {
        let sink: Option<ironseed_sim::trace::Sink> = if verbose { Some(Box::new(|l: &str| println!("{l}"))) } else { None };
        let r = ironseed_sim::run::run(&ironseed_sim::run::Order::new(seed), sink);
        if let Some(v) = &r.violation { bad += 1; let s=format!("{v:?}"); println!("seed {seed}: {}", &s[..s.len().min(400)]); }
        let s = format!("{:?}", r.stats); if verbose { println!("{s}"); }
        eprintln!("{seed} {:?} {} ev", start.elapsed(), r.stats.events); events += r.stats.events; sim += 1; let _ = sim;
    }
    println!("{n} runs, {bad} bad, {events} events, {:?}", start.elapsed());
}
