"""What referrals reads from the environment."""

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    dsn: SecretStr = Field(
        validation_alias="TURNPIKE_REFERRALS_DSN",
        description="Where referrals keeps its tables: postgresql://referrals_app:password@host:5432/turnpike",
    )
