//! Owns what goes first when room is wanted. Pure: knows numbers and times; knows no file.

use std::time::SystemTime;

/// Something that is kept, and what keeping it costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// What goes with it for certain.
    pub(super) own: u64,
    /// The image, counted from the first, that is there for it and others only: it goes with the
    /// last of them.
    pub(super) image: Option<usize>,
    pub(super) last_used: SystemTime,
    /// Running work needs it: it stays, whatever is wanted.
    pub(super) in_use: bool,
}

/// What is to go, and what that changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Which items, in the order in which they go.
    pub(super) goes: Vec<usize>,
    pub(super) freed: u64,
    pub(super) left: u64,
}

/// What of `items` goes, longest unused first, until the rest takes at most `keep` bytes. `images`
/// are the costs of the images that items name.
pub(super) fn plan(items: &[Item], images: &[u64], keep: u64) -> Plan {
    let mut users = vec![0_usize; images.len()];
    for image in items.iter().filter_map(|item| item.image) {
        users[image] += 1;
    }
    let own: u64 = items.iter().map(|item| item.own).sum();
    let mut plan = Plan {
        left: own + images.iter().sum::<u64>(),
        ..Plan::default()
    };
    let mut order: Vec<_> = (0..items.len()).filter(|at| !items[*at].in_use).collect();
    order.sort_by_key(|at| items[*at].last_used);
    for at in order {
        if plan.left <= keep {
            break;
        }
        let item = items[at];
        let mut freed = item.own;
        if let Some(image) = item.image {
            users[image] -= 1;
            if users[image] == 0 {
                freed += images[image];
            }
        }
        plan.goes.push(at);
        plan.freed += freed;
        plan.left -= freed;
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn item(own: u64, image: Option<usize>, used: u64) -> Item {
        Item {
            own,
            image,
            last_used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
            in_use: false,
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_no_more_than_needed() {
        let check = |items: &[Item], images: &[u64], keep, goes: &[usize], left| {
            let found = plan(items, images, keep);
            assert_eq!((&found.goes[..], found.left), (goes, left), "{keep}");
            let all = plan(items, images, u64::MAX).left;
            assert_eq!(found.freed + found.left, all);
        };
        let plain = [item(10, None, 3), item(20, None, 1), item(30, None, 2)];
        check(&plain, &[], 60, &[], 60);
        check(&plain, &[], 59, &[1], 40);
        check(&plain, &[], 39, &[1, 2], 10);
        check(&plain, &[], 0, &[1, 2, 0], 0);
        // An image is freed with the last of its layers.
        let shared = [item(1, Some(0), 1), item(1, Some(0), 2), item(5, None, 3)];
        check(&shared, &[100], 50, &[0, 1], 5);
        check(&shared, &[100], 106, &[0], 106);
        let busy = Item {
            in_use: true,
            ..item(7, Some(0), 0)
        };
        check(&[busy, item(1, Some(0), 1)], &[100], 0, &[1], 107);
        check(&[], &[], 0, &[], 0);
    }
}
