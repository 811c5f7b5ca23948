"""What payments needs from its environment."""

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    dsn: SecretStr = Field(validation_alias="TURNPIKE_PAYMENTS_DSN", description="PostgreSQL, as the role payments_app")
