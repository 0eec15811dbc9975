//! Shares: how many ranges each drone should hold and head.
//!
//! By weight, unless that would put two copies of a range into one drone or, where there are zones enough, into one zone:
//! keeping copies apart comes first, and what a full drone or zone cannot take is shared by the others.

use std::collections::BTreeMap;

use super::Drone;

/// Which drones stand together.
pub(super) struct Zones {
    /// The zone of each drone, by number.
    pub of: Vec<usize>,
    /// How many copies of a range may lie in one zone: one, where there are zones enough.
    pub copies: usize,
    members: Vec<Vec<usize>>,
}

/// What each drone should have.
pub(super) struct Quotas {
    pub held: Vec<usize>,
    pub headed: Vec<usize>,
}

impl Zones {
    pub fn of(drones: &[Drone], factor: usize) -> Self {
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut of = Vec::new();
        for (place, drone) in drones.iter().enumerate() {
            let fresh = members.len();
            let zone = match drone.zone.as_str() {
                "" => fresh,
                name => *numbers.entry(name).or_insert(fresh),
            };
            if zone == fresh {
                members.push(Vec::new());
            }
            members[zone].push(place);
            of.push(zone);
        }
        let room = |copies: usize| members.iter().map(|zone| zone.len().min(copies)).sum::<usize>() >= factor;
        let copies = (1..=factor).find(|copies| room(*copies)).unwrap_or(factor);
        Self { of, copies, members }
    }
}

impl Quotas {
    /// `held` and `headed` are what the drones have now: where shares are no whole numbers, who has more keeps more.
    pub fn new(
        drones: &[Drone],
        zones: &Zones,
        factor: usize,
        ranges: usize,
        held: &[usize],
        headed: &[usize],
    ) -> Self {
        let weight = |drone: &usize| u64::from(drones[*drone].weight.max(1));
        let zone_parts: Vec<Part> = zones
            .members
            .iter()
            .map(|zone| Part {
                weight: zone.iter().map(weight).sum(),
                most: zone.len().min(zones.copies) * ranges,
                present: zone.iter().map(|drone| held[*drone]).sum(),
            })
            .collect();
        let mut held_quotas = vec![0; drones.len()];
        for (zone, share) in zones.members.iter().zip(apportion(factor * ranges, &zone_parts)) {
            let part = |drone: &usize| Part { weight: weight(drone), most: ranges, present: held[*drone] };
            let parts: Vec<Part> = zone.iter().map(part).collect();
            for (drone, share) in zone.iter().zip(apportion(share, &parts)) {
                held_quotas[*drone] = share;
            }
        }
        let part = |drone: usize| Part { weight: weight(&drone), most: held_quotas[drone], present: headed[drone] };
        let parts: Vec<Part> = (0..drones.len()).map(part).collect();
        Self { headed: apportion(ranges, &parts), held: held_quotas }
    }
}

/// One who takes part in an apportionment.
struct Part {
    weight: u64,
    most: usize,
    present: usize,
}

/// Divides `total` by weight into whole parts, none above its most, each within one of its exact share. Of two that could
/// have the odd one, who has it already keeps it.
fn apportion(total: usize, parts: &[Part]) -> Vec<usize> {
    assert!(parts.iter().map(|part| part.most).sum::<usize>() >= total, "there is no room for all");
    let mut shares: Vec<Option<usize>> = vec![None; parts.len()];
    // Whoever is full by weight alone gets its most; what it cannot take raises the others' shares, which may fill more.
    let (rest, weight) = loop {
        let open = || (0..parts.len()).filter(|place| shares[*place].is_none());
        let rest = total - shares.iter().flatten().sum::<usize>();
        let weight: u64 = open().map(|place| parts[place].weight).sum();
        let exact = |part: &Part| u128::from(part.weight) * rest as u128;
        let full: Vec<usize> =
            open().filter(|p| exact(&parts[*p]) >= parts[*p].most as u128 * u128::from(weight)).collect();
        if full.is_empty() {
            break (rest, u128::from(weight));
        }
        full.into_iter().for_each(|place| shares[place] = Some(parts[place].most));
    };
    let exact = |place: usize| u128::from(parts[place].weight) * rest as u128;
    let mut open: Vec<usize> = (0..parts.len()).filter(|place| shares[*place].is_none()).collect();
    let floor = |place: usize| (exact(place) / weight) as usize;
    let odd = rest - open.iter().map(|place| floor(*place)).sum::<usize>();
    open.sort_by_key(|place| {
        let has_it = parts[*place].present > floor(*place);
        (!has_it, std::cmp::Reverse(exact(*place) % weight), *place)
    });
    // Who divides evenly takes no odd one, or it would end further than one from its share.
    let (uneven, even): (Vec<usize>, Vec<usize>) = open.into_iter().partition(|place| exact(*place) % weight != 0);
    for (rank, place) in uneven.into_iter().enumerate() {
        shares[place] = Some(floor(place) + usize::from(rank < odd));
    }
    even.into_iter().for_each(|place| shares[place] = Some(floor(place)));
    shares.into_iter().map(|share| share.expect("every part is decided")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(total: usize, parts: &[(u64, usize, usize)]) -> Vec<usize> {
        let part =
            |(weight, most, present): &(u64, usize, usize)| Part { weight: *weight, most: *most, present: *present };
        apportion(total, &parts.iter().map(part).collect::<Vec<_>>())
    }

    #[test]
    fn by_weight_and_never_above_the_most() {
        assert_eq!(shares(1024, &[(100, 1024, 0), (100, 1024, 0), (200, 1024, 0)]), [256, 256, 512]);
        assert_eq!(shares(10, &[(1, 10, 0), (1, 10, 0), (1, 10, 4)]), [3, 3, 4]);
        assert_eq!(shares(2048, &[(1000, 1024, 0), (1, 1024, 0), (1, 1024, 0)]), [1024, 512, 512]);
        assert_eq!(shares(0, &[(1, 10, 3)]), [0]);
    }

    #[test]
    fn zones_are_kept_apart_where_there_are_enough() {
        let drone = |node: u64, zone: &str| Drone { node: crate::types::NodeId(node), weight: 1, zone: zone.into() };
        let two = [drone(1, "a"), drone(2, "b"), drone(3, "b"), drone(4, "b")];
        let zones = Zones::of(&two, 2);
        assert_eq!((zones.copies, &zones.of), (1, &vec![0, 1, 1, 1]));
        let quotas = Quotas::new(&two, &zones, 2, 300, &[0; 4], &[0; 4]);
        assert_eq!(quotas.held, [300, 100, 100, 100]);
        assert_eq!(quotas.headed, [75, 75, 75, 75]);
        assert_eq!(Zones::of(&two, 3).copies, 2);
        assert_eq!(Zones::of(&[drone(1, ""), drone(2, "")], 2).copies, 1);
    }
}
