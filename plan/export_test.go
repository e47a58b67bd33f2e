package plan

// DigestOf lets tests seal what they changed.
func DigestOf(b []byte) string { return digestOf(b) }

// Losses tells what the deletion of the backups that go loses, and then that of the needless WAL.
func (r Retained) Losses() (backups, wal *Loss) {
	return r.archive.lossOfBackups(r.goes()), r.archive.lossOfWAL(r.NeedlessWAL(), r.goes())
}
