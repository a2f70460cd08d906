"""Signs a receipt's digests with model-signing, and has model-signing verify the result against them.

    python sign_receipt.py MODEL

It makes a key pair of its own; nothing is asked of any server. The manifest is the receipt's `resources`, and
the receipt itself: no file is hashed by model-signing before it verifies.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import manifest, verifying
from model_signing._hashing import hashing as digesting
from model_signing._signing import sign_ec_key, signing


def main(model: Path) -> None:
    receipt = json.loads((model / "wconv.json").read_bytes())
    resources = {one["name"]: one["digest"] for one in receipt["resources"]}
    resources["wconv.json"] = hashlib.sha256((model / "wconv.json").read_bytes()).hexdigest()
    items = [
        manifest.FileManifestItem(path=Path(name), digest=digesting.Digest("sha256", bytes.fromhex(digest)))
        for name, digest in sorted(resources.items())
    ]
    kind = manifest._FileSerialization("sha256", allow_symlinks=False, ignore_paths=frozenset())
    payload = signing.Payload(manifest.Manifest(model.name, items, kind))
    with tempfile.TemporaryDirectory() as place:
        private, public = Path(place, "private.pem"), Path(place, "public.pem")
        key = ec.generate_private_key(ec.SECP256R1())
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        signature = model.with_name("model.sig")
        sign_ec_key.Signer(private).sign(payload).write(signature)
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
        verifier.verify(model, signature)
        weights = next(model.glob("model*.safetensors"))
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        try:
            verifier.verify(model, signature)
        except ValueError:
            return
        raise SystemExit("a flipped bit was not seen")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
