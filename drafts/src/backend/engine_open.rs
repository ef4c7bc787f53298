// Of `impl<S: Kv> Engine<S>`: how a durable store opens its tables. With `const FORM: u64 = 1`.

    /// Opens tables, new or not.
    #[cfg(test)]
    pub(crate) fn open(kv: S, options: StoreOptions) -> Result<Self> {
        let settled = kv.write(|t| {
            let form = ctx::last(t, "form")?;
            if form > FORM {
                let what = format!("its form is {form}, this version reads up to {FORM}");
                return Err(BackendError::new(BackendErrorKind::Newer, what));
            }
            if form == 0 {
                t.put(keys::META, b"form", &keys::of_u64(FORM))?;
            }
            let mut settled = true;
            for kind in Ctx::new(t, &options.policies, origins::NO_TIME)?.kinds() {
                let mut row = kind.row.clone();
                if row.policy != kind.policy.name() {
                    kind.policy.name().clone_into(&mut row.policy);
                    row.replace_from = Some(0);
                    row.credit = Vec::new();
                    row.shared = None;
                    t.put(keys::TYPE, &keys::K::new().u16(kind.number), &rows::encode(&row)?)?;
                }
                settled &= row.replace_from.is_none();
            }
            Ok(settled)
        })?;
        Ok(Self { kv, options, settled: AtomicBool::new(settled) })
    }

