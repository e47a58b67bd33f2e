package store

// Kind sorts the failures of a store that an operator can mend.
type Kind int

// The kinds of Trouble.
const (
	Denied        Kind = iota + 1 // no credentials, wrong ones, or a permission that they lack
	Unreachable                   // no connection, or no answer
	Missing                       // the bucket, container or folder above the repository does not exist
	Clock                         // this machine's clock and the store's differ too much
	Unconditional                 // the store does not put conditionally, or does not list what it stored
	Unlocked                      // the bucket does not keep objects that are to be retained
	Insecure                      // a certificate or host key that cannot be trusted
)

// Trouble is a failure of which a driver knows the cause and what to do. It never holds a credential.
type Trouble struct {
	Kind Kind
	Text string // one sentence with the place and the evidence
	Hint string // the next command or the line to change
	Err  error  // may be nil
}

// Error gives the sentence and the cause.
func (t *Trouble) Error() string {
	if t.Err == nil {
		return t.Text
	}
	return t.Text + ": " + t.Err.Error()
}

// Unwrap gives the cause.
func (t *Trouble) Unwrap() error { return t.Err }
