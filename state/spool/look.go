package spool

import (
	"github.com/pgkeep/pgkeep/state"
)

// Facts are what can be seen of a server's spool and receiver from beside, without a lock.
type Facts struct {
	Spool    state.Spool
	Receiver state.Receiver
}

// Look reads a server's spool and its receiver's last report, and changes nothing. A spool that does not exist is no
// error: its facts are empty. The durable position is what a receiver that starts now would find, without the fsync
// that it would do first.
func Look(dir, server string) (Facts, error) {
	return look(dir, server)
}
