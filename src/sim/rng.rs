//! Random numbers that come out the same everywhere: xoshiro256++, seeded by SplitMix64.

/// A seeded generator.
#[derive(Debug, Clone)]
pub(crate) struct Rng([u64; 4]);

impl Rng {
    /// A generator that always gives the same numbers for a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        Self([next(), next(), next(), next()])
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        unit
    }

    /// Uniform between two numbers.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with a probability.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Exponential with a mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (-self.unit()).ln_1p()
    }

    /// Normal with mean zero and deviation one (Box and Muller; one of the two is thrown away).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = self.exponential(2.0).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// The times of a Poisson process of a rate between two times, in order.
    pub(crate) fn process(&mut self, rate: f64, from: f64, to: f64, out: &mut Vec<f64>) {
        if rate <= 0.0 {
            return;
        }
        let mut t = from + self.exponential(1.0 / rate);
        while t < to {
            out.push(t);
            t += self.exponential(1.0 / rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_vector_of_the_generator() {
        // xoshiro256++ from the state (1, 2, 3, 4): the first values, worked out by hand from its
        // definition: rotl(1 + 4, 23) + 1, and so on.
        let mut rng = Rng([1, 2, 3, 4]);
        assert_eq!(rng.bits(), (5u64 << 23) + 1);
        assert_eq!(rng.bits(), 58_720_359);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Rng::new(3);
        let n = 200_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || rng.unit()) - 0.5).abs() < 0.005);
        assert!((mean(&mut || rng.exponential(3.0)) - 3.0).abs() < 0.03);
        assert!(mean(&mut || rng.normal()).abs() < 0.01);
        assert!((mean(&mut || rng.normal().powi(2)) - 1.0).abs() < 0.015);
        let mut times = Vec::new();
        rng.process(2.0, -50.0, 50_000.0, &mut times);
        assert!(times.is_sorted() && times.iter().all(|t| (-50.0..50_000.0).contains(t)));
        assert!((f64::from(u32::try_from(times.len()).unwrap()) / 100_100.0 - 1.0).abs() < 0.02);
    }
}
