package plan

import "github.com/pgkeep/pgkeep/state/wal"

// DigestOf lets tests seal what they changed.
func DigestOf(b []byte) string { return digestOf(b) }

// Losses tells what the deletion of the needless WAL loses, and then that of the backups that go.
func (r Retained) Losses() (ofWAL, ofBackups *Loss) { return r.losses(r.NeedlessWAL()) }

// NeedlessLater gives the WAL that nobody needs once the backups that go are gone.
func (r Retained) NeedlessLater() []wal.Range {
	r.later = true
	return r.NeedlessWAL()
}
