package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// beforeAuthoring is what docs/authoring.md takes as given: a TAM that knows a developer, and a device that trusts both.
// The developer's key is the one that the page makes first.
const beforeAuthoring = `
teep-tam init tam --listen TAM --api-listen API
teep-tam token create --config tam/tam.yaml --name me --scope administrator > token
export TEEP_TAM=http://API TEEP_TOKEN_FILE=token
mkdir device
cat > device/agent.yaml <<END
trust: trust.yaml
identity: {vendor: example.com, class: sandbox-wasm, oemid: "pen:32473", hwmodel: my-board, hwversion: "1.0"}
END
cat > device/broker.yaml <<END
tees: [{name: sandbox, socket: agent.sock}]
apps: {socket: app.sock}
END
echo 'version: 1' > device/trust.yaml
teep-tam anchors --config tam/tam.yaml --distribution >> device/trust.yaml
cat >> device/trust.yaml <<END
  - {name: me, keys: [../dev.pub.pem], components: [hello]}
END
teep-agent collateral --config device/agent.yaml --owner Me --insecure-accept-weaknesses > tam/collateral.yaml
teep-agent keys --config device/agent.yaml > device.pub.pem
teep-tam serve --config tam/tam.yaml &
teep-agent serve --config device/agent.yaml &
teep-broker serve --config device/broker.yaml &
for i in $(seq 300); do
  [ -S device/app.sock ] && [ -S device/agent.sock ] && teep devices | grep -q '^[0-9a-f]' && break
  sleep 0.1
done
teep publisher add --name me --key dev.pub.pem --component hello
printf 'name: europe\nmatch: "true"\ncomponents: []\n' > europe.yaml
teep group set -f europe.yaml
cp PROGRAM hello.wasm
echo licence > licence.txt
echo '{}' > europe.json
DEVICE=$(teep devices | grep '^[0-9a-f]' | cut -c1-6)
`

// shellBlocks are the fenced blocks of a page that a reader types.
func shellBlocks(page string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?s)\n```sh\n(.*?\n)```\n").FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// TestAuthoringByHand runs every block of docs/authoring.md in order, as a new user does, but for what differs from one
// device to another.
func TestAuthoringByHand(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "authoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "authoring-") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	blocks := shellBlocks(string(page))
	if len(blocks) < 6 {
		t.Fatalf("%d blocks to run: are they still marked as sh?", len(blocks))
	}
	setup := strings.NewReplacer("TAM --api", unusedAddress(t)+" --api", "API", unusedAddress(t), "PROGRAM", filepath.Join(programs, "hello-1.wasm")).Replace(beforeAuthoring)
	script := "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n" + blocks[0] + setup
	for _, b := range blocks[1:] {
		// The TAM writes down within a second what it hears.
		b = strings.Replace(b, "teep devices report 4ba31c\n", "for i in $(seq 100); do teep devices report 4ba31c | grep -q keys && break; sleep 0.1; done\nteep devices report 4ba31c\n", 1)
		script += strings.ReplaceAll(b, "4ba31c", "$DEVICE")
	}
	runByHand(t, dir, script, "accepted", "[0]install@", "succeeded")
}
