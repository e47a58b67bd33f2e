package host

import (
	"fmt"
	"os"
	"strings"
)

// Name gives this machine's name as `host` in the HCL means it.
func Name() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the host name: %w", err)
	}
	return name, nil
}

// IsHere tells whether a configured host means the machine named here. An empty one does. A name without a dot also
// means the fully qualified one that begins with it, and the other way round; case does not matter.
func IsHere(configured, here string) bool {
	if configured == "" || strings.EqualFold(configured, here) {
		return true
	}
	if strings.Contains(configured, ".") && strings.Contains(here, ".") {
		return false
	}
	a, _, _ := strings.Cut(configured, ".")
	b, _, _ := strings.Cut(here, ".")
	return strings.EqualFold(a, b)
}
