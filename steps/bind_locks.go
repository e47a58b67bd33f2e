package steps

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgkeep/pgkeep/state/host"
)

// realLocks are flocks in one directory of the machine. They keep two pgkeep from doing the same work; what the work
// does is safe without them.
type realLocks struct{ real }

func (r realLocks) TryLock(_ context.Context, name string) (func(), error) {
	return host.Lock(filepath.Join(r.o.LockDir, lockFile(name)), host.Holder{
		PID: os.Getpid(), Who: r.o.Who, What: name, Since: r.o.Now().UTC(),
	})
}

// lockFile gives a file name for any lock's name: what is no letter, digit, dot or dash becomes its code.
func lockFile(name string) string {
	var out strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' {
			out.WriteByte(c)
			continue
		}
		fmt.Fprintf(&out, "_%02x", c)
	}
	return out.String() + ".lock"
}
