package servers

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// The credentials of the Azure server. The key is a canary: no output of pgkeep may hold it.
const (
	AzureAccount = "pgkeeptest"
	AzureKey     = "Y2FuYXJ5LWF6dXJlLWtleS03ZjNhOWI="
)

// AzureServer is a running azurite.
type AzureServer struct {
	Address string // 127.0.0.1:port
	Kill    func() // ends the server; it ends with the test anyway
}

// Azure starts azurite over a folder of the test, and sets AZURE_STORAGE_KEY for the test.
func Azure(tb testing.TB) *AzureServer {
	tb.Helper()
	path, dir := program(tb, "azurite"), tb.TempDir()
	s := &AzureServer{}
	s.Address, s.Kill = listen(tb, func(port int) *exec.Cmd {
		cmd := exec.Command(path, "--blobHost", "127.0.0.1", "--blobPort", fmt.Sprint(port), "--location", dir, "--silent", "--skipApiVersionCheck", "--disableTelemetry")
		cmd.Env = environment("AZURITE_ACCOUNTS=" + AzureAccount + ":" + AzureKey)
		return cmd
	})
	tb.Setenv("AZURE_STORAGE_KEY", AzureKey)
	return s
}

// URL gives the URL of a repository in a container.
func (s *AzureServer) URL(name, prefix string) string {
	return strings.TrimSuffix("azblob://"+name+"/"+prefix, "/") + fmt.Sprintf("?account=%s&endpoint=http://%s/%s", AzureAccount, s.Address, AzureAccount)
}

// Container makes a container.
func (s *AzureServer) Container(tb testing.TB, name string) {
	tb.Helper()
	key, err := container.NewSharedKeyCredential(AzureAccount, AzureKey)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(fmt.Sprintf("http://%s/%s/%s", s.Address, AzureAccount, name), key, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := c.Create(tb.Context(), nil); err != nil {
		tb.Fatal(err)
	}
}
