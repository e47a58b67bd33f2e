package plan

// DigestOf lets tests seal what they changed.
func DigestOf(b []byte) string { return digestOf(b) }

// Losses tells what the deletion of the needless WAL loses, and then that of the backups that go.
func (r Retained) Losses() (ofWAL, ofBackups *Loss) { return r.losses(r.NeedlessWAL()) }
