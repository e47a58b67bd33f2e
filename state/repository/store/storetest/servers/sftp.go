package servers

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
)

// SFTPServer is a running sshd that knows one key.
type SFTPServer struct {
	Address    string // 127.0.0.1:port
	Identity   string // file of the private key that it lets in
	KnownHosts string // file with its host key
	Kill       func() // ends the server; it ends with the test anyway
}

// SFTP starts OpenSSH's sshd for the user of the test.
func SFTP(tb testing.TB) *SFTPServer {
	tb.Helper()
	path, dir := program(tb, "sshd"), tb.TempDir()
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd insists
			tb.Fatal(err)
		}
	}
	host, hostKey := writeKey(tb, filepath.Join(dir, "host"))
	identity, public := writeKey(tb, filepath.Join(dir, "identity"))
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
		return file
	}
	keys := write("authorized_keys", string(ssh.MarshalAuthorizedKey(public)))
	s := &SFTPServer{Identity: identity}
	s.Address, s.Kill = listen(tb, func(port int) *exec.Cmd {
		s.KnownHosts = write("known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", port, ssh.MarshalAuthorizedKey(hostKey)))
		config := write("config", fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\nUsePAM no\n"+
			"PasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\nSubsystem sftp internal-sftp\n", port, host, keys))
		cmd := exec.Command(path, "-D", "-e", "-f", config)
		cmd.Env = environment()
		return cmd
	})
	return s
}

// Dir makes a directory and gives the URL of a repository in it.
func (s *SFTPServer) Dir(tb testing.TB) string {
	tb.Helper()
	me, err := user.Current()
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("sftp://%s@%s%s?identity_file=%s&known_hosts=%s", me.Username, s.Address, tb.TempDir(), s.Identity, s.KnownHosts)
}

func writeKey(tb testing.TB, file string) (string, ssh.PublicKey) {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		tb.Fatal(err)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return file, public
}
