package sftp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// session is one connection.
type session struct {
	*sftp.Client
	ssh     *ssh.Client
	durable map[string]bool // directories whose own entry this connection has fsynced; under the backend's lock
}

// connected gives the connection, making one when there is none or the last was lost.
func (b *backend) connected(ctx context.Context) (*session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now != nil {
		return b.now, nil
	}
	s, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	b.now = s
	go b.collect(s)
	go func() { // a connection ends by itself when it was silent for a while, or when it breaks
		_ = s.ssh.Wait()
		b.lost(s)
	}()
	return s, nil
}

// lost forgets a connection.
func (b *backend) lost(s *session) {
	b.mu.Lock()
	if b.now == s {
		b.now = nil
	}
	b.mu.Unlock()
	s.ssh.Close()
}

func (b *backend) connect(ctx context.Context) (*session, error) {
	address := net.JoinHostPort(b.at.Host, strconv.Itoa(b.at.Port))
	config, done, err := b.config(address)
	if err != nil {
		return nil, err
	}
	defer done()
	wire, err := b.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { wire.Close() })
	defer stop()
	conn, channels, requests, err := ssh.NewClientConn(wire, address, config)
	if err != nil {
		wire.Close()
		return nil, b.refused(err)
	}
	client := ssh.NewClient(conn, channels, requests)
	files, err := sftp.NewClient(client, sftp.UseConcurrentWrites(true), sftp.MaxConcurrentRequestsPerFile(16))
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("begin sftp on %s: %w", b.at.Host, err)
	}
	for _, name := range []string{"hardlink@openssh.com", "fsync@openssh.com"} {
		if _, ok := files.HasExtension(name); !ok {
			client.Close()
			return nil, b.trouble(store.Unconditional, "the server has no "+name+", so two writers could destroy each other's work, or a power cut what was stored",
				"use OpenSSH's sftp-server or internal-sftp there", nil)
		}
	}
	return &session{Client: files, ssh: client, durable: map[string]bool{}}, nil
}

// config says who we are and which server we trust.
func (b *backend) config(address string) (*ssh.ClientConfig, func(), error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	name := b.at.User
	if name == "" {
		me, err := user.Current()
		if err != nil {
			return nil, nil, fmt.Errorf("find the name of this user: %w", err)
		}
		name = me.Username
	}
	file := b.at.KnownHosts
	if file == "" {
		file = filepath.Join(home, ".ssh", "known_hosts")
	}
	trusted, err := knownhosts.New(file)
	if err != nil {
		return nil, nil, b.trouble(store.Insecure, "the host keys of known servers cannot be read", "ssh-keyscan -p "+strconv.Itoa(b.at.Port)+" "+b.at.Host+" >> "+file+", and compare the key with the server's own", err)
	}
	methods, done := b.methods(filepath.Join(home, ".ssh"))
	return &ssh.ClientConfig{
		User: name, Auth: methods, HostKeyCallback: trusted, HostKeyAlgorithms: algorithms(trusted, address), Timeout: 15 * time.Second,
	}, done, nil
}

// algorithms asks for the kinds of key that are known of a server: it may have others too. None: all.
func algorithms(trusted ssh.HostKeyCallback, address string) []string {
	var known *knownhosts.KeyError
	if err := trusted(address, &net.TCPAddr{IP: net.IPv4zero}, nobody{}); !errors.As(err, &known) {
		return nil
	}
	var out []string
	for _, k := range known.Want {
		switch kind := k.Key.Type(); kind {
		case ssh.KeyAlgoRSA:
			out = append(out, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			out = append(out, kind)
		}
	}
	return out
}

// nobody is a key that no server has.
type nobody struct{}

func (nobody) Type() string                        { return "none" }
func (nobody) Marshal() []byte                     { return []byte("none") }
func (nobody) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// methods gives the keys that ssh itself would try: the URL's alone, else the agent's, then the usual files.
func (b *backend) methods(dir string) ([]ssh.AuthMethod, func()) {
	if b.at.IdentityFile != "" {
		return []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return b.signers(b.at.IdentityFile) })}, func() {}
	}
	var keys []string
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		keys = append(keys, filepath.Join(dir, name))
	}
	var socket net.Conn
	if path := os.Getenv("SSH_AUTH_SOCK"); path != "" {
		socket, _ = net.DialTimeout("unix", path, 5*time.Second) // an agent that is gone has no keys
	}
	done := func() {
		if socket != nil {
			socket.Close()
		}
	}
	return []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
		var out []ssh.Signer
		if socket != nil {
			if found, err := agent.NewClient(socket).Signers(); err == nil {
				out = found
			}
		}
		for _, file := range keys {
			if found, err := b.signers(file); err == nil {
				out = append(out, found...)
			}
		}
		return out, nil
	})}, done
}

func (b *backend) signers(file string) ([]ssh.Signer, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, b.trouble(store.Denied, "the key "+file+" cannot be read", "look at its path and permissions", err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, b.trouble(store.Denied, "the key "+file+" cannot be used", "name one without a passphrase, or add it to an agent: ssh-add "+file, nil) // the cause may quote the file
	}
	return []ssh.Signer{key}, nil
}

// refused tells why a server and we did not come together.
func (b *backend) refused(err error) error {
	var unknown *knownhosts.KeyError
	var trouble *store.Trouble
	var network net.Error
	switch {
	case errors.As(err, &trouble):
		return trouble
	case errors.As(err, &unknown) && len(unknown.Want) == 0:
		return b.trouble(store.Insecure, "its host key is not known here", fmt.Sprintf("ssh-keyscan -p %d %s >> ~/.ssh/known_hosts, and compare the key with the server's own", b.at.Port, b.at.Host), nil)
	case errors.As(err, &unknown):
		return b.trouble(store.Insecure, "its host key is another than the known one: somebody may stand between", "find out why it changed; then: ssh-keygen -R "+b.at.Host, nil)
	case errors.As(err, &network):
		return err
	}
	return b.trouble(store.Denied, "the server does not let us in", "put the public key of the user who runs pgkeep into ~/.ssh/authorized_keys there, or name a key in ?identity_file=", err)
}

func (b *backend) trouble(kind store.Kind, text, hint string, err error) error {
	return &store.Trouble{Kind: kind, Text: b.Place() + ": " + text, Hint: hint, Err: err}
}
