//! The little statistics that a benchmark on shared cores deserves.

/// The middle value; the mean of the middle two where there is no middle one. Not a number where
/// there is nothing.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// How many times as large as `reference` a value is.
pub(super) fn ratio(value: f64, reference: f64) -> f64 {
    value / reference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_care_for_order_and_outliers() {
        let check = |values: &[f64], wanted: f64| {
            assert_eq!(median(values.iter().copied()), wanted, "{values:?}");
        };
        check(&[3.0], 3.0);
        check(&[9.0, 1.0, 2.0], 2.0);
        check(&[1.0, 1000.0, 2.0, 4.0], 3.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_ratio_says_how_many_times() {
        assert_eq!(ratio(3.0, 2.0), 1.5);
    }
}
