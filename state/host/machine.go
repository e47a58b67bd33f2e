package host

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
)

// Machine gives the identity of this machine: two that are equal are the same one. It is a hash of the operating system's
// machine-id, which machine-id(5) wants kept from strangers, or of the running kernel's boot id where there is none, and
// then it changes when the machine starts anew. Empty: the machine tells neither.
func Machine() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id"} {
		b, err := os.ReadFile(path)
		if id := strings.TrimSpace(string(b)); err == nil && len(id) >= 32 {
			sum := sha256.Sum256([]byte("pgkeep machine " + id))
			return hex.EncodeToString(sum[:16])
		}
	}
	return ""
}
