package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestConsoleOnTerminal types into a pseudo-terminal: Tab completes a name, an arrow brings the line before back, a
// mistake is drawn, and Ctrl-D, Ctrl-C or "exit" ends it with the terminal as it was.
func TestConsoleOnTerminal(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.hcl"), []byte("variable \"env\" {\n  default = \"prod\"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"\x04", "\x03", "exit\r"} {
		master, slave := terminals(t)
		before := settings(t, slave)
		seen := make(chan string, 1)
		go func() { seen <- watch(master, "var.e\t\r\x1b[A\rvar.evn\r"+end) }()
		a := &app{in: slave, out: slave, err: slave, inTerminal: true, outTerminal: true, errTerminal: true, now: time.Now, version: "0.1.0", width: 80}
		code := run(context.Background(), a, []string{"console", "-C", dir})
		if after := settings(t, slave); code != 0 || after != before {
			t.Errorf("%q: it ended with %d, terminal %v, before %v", end, code, after, before)
		}
		if _, err := slave.WriteString(theEnd); err != nil {
			t.Fatal(err)
		}
		text := <-seen
		if strings.Count(text, "\"prod\"\r\n") != 2 || !strings.Contains(text, "> var.env") || !strings.Contains(text, "Did you mean var.env?") {
			t.Errorf("%q: the terminal shows\n%s", end, text)
		}
	}
}

// theEnd is what the test writes last.
const theEnd = "-- the end --"

// terminals opens a pseudo-terminal.
func terminals(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

// settings are the terminal's.
func settings(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// watch types the keys once there is a prompt, and gives what is drawn up to theEnd.
func watch(master *os.File, keys string) string {
	var text strings.Builder
	part := make([]byte, 4096)
	for !strings.Contains(text.String(), theEnd) {
		n, err := master.Read(part)
		text.Write(part[:n])
		if keys != "" && strings.Contains(text.String(), "> ") {
			_, _ = master.WriteString(keys)
			keys = ""
		}
		if err != nil {
			break
		}
	}
	return text.String()
}
