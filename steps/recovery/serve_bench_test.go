package recovery

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkServe is what PostgreSQL waits for at each segment: the shell line, where the segment was fetched ahead, and the shell
// alone, which PostgreSQL starts for any restore_command.
func BenchmarkServe(b *testing.B) {
	dir := b.TempDir()
	ahead, got := filepath.Join(dir, "ahead"), filepath.Join(dir, "RECOVERYXLOG")
	if err := os.Mkdir(ahead, 0o700); err != nil {
		b.Fatal(err)
	}
	there := filepath.Join(ahead, "F")
	if err := os.WriteFile(there, make([]byte, 16<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	line := strings.NewReplacer("%%", "%", "%f", "F", "%p", got).Replace(restoreCommand("/no/such/program", "/route", ahead))
	run := func(b *testing.B, line string) {
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			b.Fatalf("%v %s", err, out)
		}
	}
	b.Run("fetched_ahead", func(b *testing.B) {
		for b.Loop() {
			run(b, line)
			if err := os.Rename(got, there); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("shell_alone", func(b *testing.B) {
		for b.Loop() {
			run(b, "exit 0")
		}
	})
}
